"""What a run has decided about the rows it was last evaluated on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from estitchup_pl.batch import NONE
from estitchup_pl.callbacks.evaluated import EvaluatedRows
from estitchup_pl.functional import acceptance
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.report.runs import Decisions
from estitchup_pl.store.labels import Rows


@dataclass(frozen=True)
class Evaluated:
    """Decisions on some rows of a store.

    Attributes:
        rows: The rows, int64 ``(rows,)``, rising.
        decisions: Decisions before any is rejected.
        predicted: Class index or ``NONE``, as the model decides, int64 ``(rows,)``.
        class_names: Names of the classes.
        threshold: Threshold in ``[0, 1]``; ``None`` where none has been fitted.
    """

    rows: Rows
    decisions: Decisions
    predicted: Tensor
    class_names: tuple[str, ...]
    threshold: float | None

    @property
    def accepted(self) -> Tensor:
        """Whether a row gets a class, bool ``(rows,)``."""
        return self.predicted != NONE

    def names(self, indices: Tensor) -> list[str]:
        """Names of classes, or ``"none"``, of indices ``(n,)``."""
        names = (*self.class_names, "none")  # NONE, which is -1, finds the last
        return [names[index] for index in indices.tolist()]


@torch.inference_mode()
def judged(model: EmbeddingClassifier, rows: EvaluatedRows) -> Evaluated:
    """Decide about collected rows with the decision that a model has now."""
    decided = model.decision(rows.embeddings, rows.members)
    scores = decided.none_scores if model.decision.score else None
    confidence, classes = decided.probabilities.max(dim=1)
    fields = (confidence, classes, rows.labels, acceptance(decided.probabilities, scores))
    return Evaluated(
        rows.rows.cpu().numpy().astype(np.int64),
        Decisions(*(field.cpu() for field in fields)),
        decided.predicted.cpu(),
        model.class_names,
        model.threshold if model.decision.has_threshold else None,
    )

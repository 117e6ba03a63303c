"""The rows of a validation, of all processes, for what is fitted on them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from typing_extensions import override

from estitchup_pl.batch import EmbeddingBatch
from estitchup_pl.functional import mean_logits
from estitchup_pl.metrics.rows import gather_rows


class EvaluatedRows(NamedTuple):
    """Rows that a network was evaluated on, and its outputs.

    Attributes:
        embeddings: As the network saw them, float ``(rows, dim)``; without columns where nobody needs them.
        outputs: Uncalibrated logits, float ``(rows, classes)``; of an ensemble those of its members,
            ``(rows, members, classes)``.
        labels: Class index or ``NONE``, int64 ``(rows,)``.
        rows: Number of each row in its data set, int64 ``(rows,)``.
    """

    embeddings: Tensor
    outputs: Tensor
    labels: Tensor
    rows: Tensor

    @property
    def members(self) -> Tensor:
        """Uncalibrated logits as a decision takes them, ``(rows, classes)`` or ``(members, rows, classes)``."""
        return self.outputs.movedim(1, 0) if self.outputs.ndim == 3 else self.outputs

    @property
    def logits(self) -> Tensor:
        """Uncalibrated logits ``(rows, classes)``, of an ensemble those of its mean."""
        return mean_logits(self.members) if self.outputs.ndim == 3 else self.outputs

    def once(self) -> EvaluatedRows:
        """Take each row once, in the order of their numbers."""
        order = self.rows.argsort(stable=True)
        rows = self.rows[order]
        is_first = torch.ones_like(rows, dtype=torch.bool)
        is_first[1:] = rows[1:] != rows[:-1]
        return EvaluatedRows(*(values[order[is_first]] for values in self))

    def batch(self) -> EmbeddingBatch:
        """The rows as one batch, without targets."""
        return EmbeddingBatch(self.embeddings, self.outputs.new_empty(len(self.rows), 0), self.labels, self.rows)


class RowCollector(Metric):
    """Collects the rows of a validation; ``compute`` returns those of all processes, each once.

    Args:
        keeps_embeddings: Whether to keep the embeddings, which are many.
    """

    full_state_update = False

    embeddings: list[Tensor]
    outputs: list[Tensor]
    labels: list[Tensor]
    rows: list[Tensor]

    def __init__(self, keeps_embeddings: bool) -> None:
        super().__init__(dist_sync_fn=gather_rows)
        self.keeps_embeddings = keeps_embeddings
        for name in EvaluatedRows._fields[not keeps_embeddings :]:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, batch: EmbeddingBatch, logits: Tensor) -> None:
        """Take in a batch and its logits, ``(batch, classes)`` or ``(members, batch, classes)``."""
        if self.keeps_embeddings:
            self.embeddings.append(batch.embeddings)
        self.outputs.append(logits.movedim(0, 1) if logits.ndim == 3 else logits)
        self.labels.append(batch.labels)
        self.rows.append(batch.rows)

    def of_this_process(self) -> EvaluatedRows:
        """The rows that this process has seen, in the order in which they came."""
        outputs, labels, rows = (dim_zero_cat(part) for part in (self.outputs, self.labels, self.rows))
        embeddings = dim_zero_cat(self.embeddings) if self.keeps_embeddings else outputs.new_empty(len(rows), 0)
        return EvaluatedRows(embeddings, outputs, labels, rows)

    @override
    def compute(self) -> EvaluatedRows:
        return self.of_this_process().once()

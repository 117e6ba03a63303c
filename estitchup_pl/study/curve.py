"""Accuracies in the course of training (Fig. 5)."""

from __future__ import annotations

import lightning.pytorch as pl
import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from estitchup_pl.batch import NONE
from estitchup_pl.functional import none_aware_accuracy
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.seeding import derive_seed
from estitchup_pl.store.labels import Rows
from estitchup_pl.study.trials import Trials

KNOWN_ROWS = 4096
"""Known rows that a curve is measured on at most; "none" rows, which are few, are all taken."""


class CurveRows:
    """The rows of a trial that its curves are measured on, read once for all methods.

    Args:
        trials: Rows and store.
        trial: The trial.

    Attributes:
        embeddings: As the store has them, ``(rows, dim)`` by modality.
        labels: Class index or ``NONE``, int64 ``(rows,)``.
        none_share: Share of "none" rows among all test rows.
    """

    def __init__(self, trials: Trials, trial: int) -> None:
        test, names = trials.parts("final", trial).test, trials.class_names("final", trial)
        known = trials.known(test, names)
        rows = np.union1d(np.setdiff1d(test, known), sample_rows(known, KNOWN_ROWS, trial))
        self.embeddings = trials.gather(rows)
        self.labels = torch.from_numpy(trials.label_index(rows, names))
        self.none_share = 1 - len(known) / len(test)


def sample_rows(rows: Rows, count: int, trial: int) -> Rows:
    """Draw at most ``count`` of the rows, the same ones each time."""
    if len(rows) <= count:
        return rows
    return np.random.default_rng(derive_seed("study", "curve", trial)).choice(rows, count, replace=False)


class AccuracyCurve(pl.Callback):
    """Records the accuracy over all, known and "none" rows every few epochs.

    Args:
        rows: What to measure on.
        threshold: Confidence threshold in ``[0, 1]``, found before this fit.
        every: Epochs between two points.
    """

    def __init__(self, rows: CurveRows, threshold: float, every: int) -> None:
        self.rows = rows
        self.threshold = threshold
        self.every = every
        self.points: list[tuple[int, float, float, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: EmbeddingClassifier) -> None:  # type: ignore[override]
        """Add a point."""
        epoch = trainer.current_epoch + 1
        if epoch % self.every == 0:
            starts = range(0, len(self.rows.labels), KNOWN_ROWS)
            probabilities = torch.cat([self._predict(pl_module, start) for start in starts])
            if bool(probabilities.isfinite().all()):
                self.points.append((epoch, *self._measure(probabilities)))

    def table(self) -> pa.Table:
        """Points of the curve, by epoch."""
        names = ("epoch", "accuracy", "accuracy_id", "accuracy_none")
        schema = pa.schema([(names[0], pa.int32()), *((name, pa.float64()) for name in names[1:])])
        return pa.Table.from_pylist([dict(zip(names, point, strict=True)) for point in self.points], schema)

    def _predict(self, model: EmbeddingClassifier, start: int) -> Tensor:
        part = {name: rows[start : start + KNOWN_ROWS] for name, rows in self.rows.embeddings.items()}
        return model.predict_proba(part).cpu()

    def _measure(self, probabilities: Tensor) -> tuple[float, float, float]:
        measured = none_aware_accuracy(probabilities, self.rows.labels, self.threshold)
        known, none, share = float(measured.accuracy_id), float(measured.accuracy_none), self.rows.none_share
        # Not all known rows were measured: each kind counts by its share of the test rows.
        is_none = self.rows.labels == NONE
        overall = sum(
            weight * accuracy
            for weight, accuracy, rows in ((1 - share, known, ~is_none), (share, none, is_none))
            if bool(rows.any())
        )
        return overall, known, none

"""Accuracies in the course of training (Fig. 5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from estitchup_pl.batch import NONE
from estitchup_pl.functional import none_aware_accuracy
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.seeding import derive_seed
from estitchup_pl.store.labels import Rows

KNOWN_ROWS = 4096
"""Known rows that a curve is measured on at most; "none" rows, which are few, are all taken."""

_SCHEMA = pa.schema([("epoch", pa.int32())] + [(f"accuracy{kind}", pa.float64()) for kind in ("", "_id", "_none")])


@dataclass(frozen=True, eq=False)
class CurveRows:
    """The rows of a trial that its curves are measured on, read once for all methods.

    Attributes:
        embeddings: As the store has them, ``(rows, dim)`` by modality.
        labels: Class index or ``NONE``, int64 ``(rows,)``.
        none_share: Share of "none" rows among all test rows.
    """

    embeddings: dict[str, npt.NDArray[Any]]
    labels: Tensor
    none_share: float
    _placed: dict[torch.device, tuple[dict[str, Tensor], Tensor]] = field(default_factory=dict, repr=False)

    def on(self, device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
        """Embeddings and labels on a device, where they stay for all points of all curves."""
        if device not in self._placed:
            embeddings = {name: torch.from_numpy(rows).to(device) for name, rows in self.embeddings.items()}
            self._placed[device] = embeddings, self.labels.to(device)
        return self._placed[device]


def sample_rows(rows: Rows, count: int, trial: int) -> Rows:
    """Draw at most ``count`` of the rows, the same ones each time."""
    if len(rows) <= count:
        return rows
    return np.random.default_rng(derive_seed("study", "curve", trial)).choice(rows, count, replace=False)


@dataclass
class AccuracyCurve:
    """Records the accuracy over all, known and "none" rows every few epochs, and after the last.

    Args:
        rows: What to measure on.
        threshold: Confidence threshold in ``[0, 1]``, found before this fit.
        every: Epochs between two points.
        epochs: Epochs of the fit.

    Attributes:
        points: Epoch, and the accuracies over all, known and "none" rows.
    """

    rows: CurveRows
    threshold: float
    every: int
    epochs: int
    points: list[tuple[int, float, float, float]] = field(default_factory=list)

    def watch(self, epoch: int, model: EmbeddingClassifier) -> None:
        """Add a point after an epoch, counted from 1, if there is to be one."""
        if epoch % self.every == 0 or epoch == self.epochs:
            embeddings, labels = self.rows.on(model.device)
            probabilities = torch.cat(
                [
                    model.predict_proba({name: rows[start : start + KNOWN_ROWS] for name, rows in embeddings.items()})
                    for start in range(0, len(labels), KNOWN_ROWS)
                ]
            )
            if bool(probabilities.isfinite().all()):
                self.points.append((epoch, *self._measure(probabilities, labels)))

    def table(self) -> pa.Table | None:
        """Points of the curve by epoch; ``None`` if there are none."""
        points = [dict(zip(_SCHEMA.names, point, strict=True)) for point in self.points]
        return pa.Table.from_pylist(points, _SCHEMA) if points else None

    def _measure(self, probabilities: Tensor, labels: Tensor) -> tuple[float, float, float]:
        measured = none_aware_accuracy(probabilities, labels, self.threshold)
        known, none, share = float(measured.accuracy_id), float(measured.accuracy_none), self.rows.none_share
        # Not all known rows were measured: each kind counts by its share of the test rows.
        is_none = labels == NONE
        overall = sum(
            weight * accuracy
            for weight, accuracy, rows in ((1 - share, known, ~is_none), (share, none, is_none))
            if bool(rows.any())
        )
        return overall, known, none

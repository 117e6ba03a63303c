"""How well "none" is told from everything known, and groups of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from estitchup_pl.batch import NONE
from estitchup_pl.functional import none_detection
from estitchup_pl.functional.detection import NoneDetectionScores
from estitchup_pl.metrics.rows import RowMetric


class NoneMetric(RowMetric):
    """Metric of the score of "none", over all "none" rows and over groups of them, each against all known rows.

    Groups part "none" by how it came to be, such as items near the known classes and items far from them.

    Args:
        groups: Row numbers of each group by name, int64 ``(rows of the group,)``; rows of known classes among them do
            not matter. May be set at any time: ``metric.groups = {"near": rows}``.
        kwargs: Options of :class:`torchmetrics.Metric`.
    """

    def __init__(self, groups: Mapping[str, Tensor] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.groups = groups or {}

    @property
    def groups(self) -> dict[str, Tensor]:
        """Row numbers of each group by name."""
        return self._groups

    @groups.setter
    def groups(self, groups: Mapping[str, Tensor]) -> None:
        self._groups = {name: torch.as_tensor(rows, dtype=torch.int64) for name, rows in groups.items()}
        self._computed = None  # what was computed belongs to the groups before

    def detections(self) -> dict[str, NoneDetectionScores]:
        """Return the scores over all rows, under the empty name, and those of each group under ``/name``."""
        _, target = self.predictions()
        scores, rows = self.none_scores(), self.row_numbers()
        found = {"": none_detection(scores, target)}
        for name, group in self.groups.items():
            kept = (target != NONE) | torch.isin(rows, group.to(rows.device))
            found[f"/{name}"] = none_detection(scores[kept], target[kept])
        return found


class NoneDetection(NoneMetric):
    """AUROC and average precision of "none" against everything known, over all rows and over groups of "none".

    Args:
        groups: Row numbers of each group by name, see :class:`NoneMetric`.
        kwargs: Options of :class:`torchmetrics.Metric`.

    Example:
        >>> metric = NoneDetection(groups={"near": torch.tensor([2])})
        >>> preds, target = torch.tensor([[0.9], [0.4], [0.7], [0.1]]), torch.tensor([0, 0, -1, -1])
        >>> metric.update(preds, target, rows=torch.arange(4))
        >>> {name: round(float(value), 2) for name, value in metric.compute().items()}
        {'none_auroc': 0.75, 'none_ap': 0.83, 'none_auroc/near': 0.5, 'none_ap/near': 0.5}
    """

    higher_is_better = True

    def compute(self) -> dict[str, Tensor]:
        """Return ``none_auroc`` and ``none_ap``, and the same of each group, float64; NaN where it has no row."""
        values: dict[str, Tensor] = {}
        for group, scores in self.detections().items():
            values |= {f"none_auroc{group}": scores.auroc, f"none_ap{group}": scores.average_precision}
        return values


class NoneFalsePositives(NoneMetric):
    """Share of the known rows that are taken for "none" where 95 % of the "none" rows are found (FPR95).

    Args:
        groups: Row numbers of each group by name, see :class:`NoneMetric`.
        kwargs: Options of :class:`torchmetrics.Metric`.

    Example:
        >>> metric = NoneFalsePositives()
        >>> metric.update(torch.tensor([[0.9], [0.4], [0.7], [0.1]]), torch.tensor([0, 0, -1, -1]))
        >>> metric.compute()
        {'none_fpr95': tensor(0.5000, dtype=torch.float64)}
    """

    higher_is_better = False

    def compute(self) -> dict[str, Tensor]:
        """Return ``none_fpr95``, and the same of each group, float64; NaN where it has no row."""
        return {f"none_fpr95{group}": scores.fpr95 for group, scores in self.detections().items()}

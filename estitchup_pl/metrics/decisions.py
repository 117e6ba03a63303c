"""Decisions: what a threshold accepts and rejects, how right that is, and how the threshold is chosen."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from estitchup_pl.batch import NONE
from estitchup_pl.errors import ConfigError
from estitchup_pl.functional import (
    Heuristic,
    ThresholdInterval,
    acceptance,
    accepted_accuracy,
    none_aware_accuracy,
    risk_areas,
    threshold_interval,
    top_label,
)
from estitchup_pl.metrics.rows import RowMetric
from estitchup_pl.thresholds import ThresholdRule, threshold_rule


class ThresholdMetric(RowMetric):
    """Metric of the decisions at a threshold, which whoever evaluates sets to the one in force.

    Args:
        threshold: Least acceptance (one minus the score of "none"; for the paper's score the confidence), exclusive.
            NaN where none was fitted: everything is accepted. May be set again at any time:
            ``metric.threshold = 0.8``.
        kwargs: Options of :class:`torchmetrics.Metric`.

    Raises:
        ConfigError: If the threshold lies outside ``[0, 1]``.
    """

    def __init__(self, threshold: float | Tensor = math.nan, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.threshold = threshold

    @property
    def threshold(self) -> float:
        """A prediction is valid only if its acceptance is greater; NaN accepts everything."""
        return self._threshold

    @threshold.setter
    def threshold(self, value: float | Tensor) -> None:
        threshold = float(value)
        if not 0 <= threshold <= 1 and not math.isnan(threshold):
            raise ConfigError(f"threshold: expected a confidence from 0 to 1, got {threshold}")
        self._threshold = threshold
        self._computed = None  # what was computed belongs to the threshold before


class NoneAwareAccuracy(ThresholdMetric):
    """Top-one accuracy with rejection: overall, in-distribution and of "none" (Sec. 3.5).

    Args:
        threshold: Least acceptance (one minus the score of "none"; for the paper's score the confidence), exclusive.
            NaN where none was fitted: everything is accepted. May be set again at any time:
            ``metric.threshold = 0.8``.
        kwargs: Options of :class:`torchmetrics.Metric`.

    Raises:
        ConfigError: If the threshold lies outside ``[0, 1]``.

    Example:
        >>> import torch
        >>> metric = NoneAwareAccuracy(threshold=0.6)
        >>> metric.update(torch.tensor([[0.25, 0.75], [0.5, 0.25], [0.125, 0.25]]), torch.tensor([1, 0, -1]))
        >>> {name: round(float(value), 2) for name, value in metric.compute().items()}
        {'accuracy': 0.67, 'accuracy_id': 0.5, 'accuracy_none': 1.0}
    """

    higher_is_better = True

    def compute(self) -> dict[str, Tensor]:
        """Return ``accuracy``, ``accuracy_id`` and ``accuracy_none``, float64; NaN where there is no such row."""
        preds, target, none_scores = self.decided()
        return none_aware_accuracy(preds, target, self.threshold, none_scores)._asdict()


class AcceptedAccuracy(ThresholdMetric):
    """Accuracy among the accepted rows, an accepted "none" row being an error, beside the share that is accepted.

    Args:
        threshold: Least acceptance (one minus the score of "none"; for the paper's score the confidence), exclusive.
            NaN where none was fitted: everything is accepted. May be set again at any time:
            ``metric.threshold = 0.8``.
        kwargs: Options of :class:`torchmetrics.Metric`.

    Raises:
        ConfigError: If the threshold lies outside ``[0, 1]``.

    Example:
        >>> import torch
        >>> metric = AcceptedAccuracy(threshold=0.6)
        >>> metric.update(torch.tensor([[0.25, 0.75], [0.5, 0.25], [0.125, 0.7]]), torch.tensor([1, 0, -1]))
        >>> {name: round(float(value), 2) for name, value in metric.compute().items()}
        {'accuracy_accepted': 0.5, 'coverage': 0.67}
    """

    higher_is_better = True

    def compute(self) -> dict[str, Tensor]:
        """Return ``accuracy_accepted`` (NaN where nothing is accepted) and ``coverage``, float64."""
        preds, target, none_scores = self.decided()
        _, correct = top_label(preds, target)
        accuracy, coverage = accepted_accuracy(acceptance(preds, none_scores), correct, self.threshold)
        return {"accuracy_accepted": accuracy, "coverage": coverage}


class TopOneAccuracy(RowMetric):
    """Share of the in-distribution rows whose most likely class is right, before any is rejected.

    Args:
        kwargs: Options of :class:`torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = TopOneAccuracy()
        >>> metric.update(torch.tensor([[0.25, 0.75], [0.5, 0.25], [0.5, 0.75]]), torch.tensor([1, 1, -1]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    higher_is_better = True

    def compute(self) -> Tensor:
        """Return the share in ``[0, 1]``, float64; NaN without such rows."""
        preds, target = self.predictions()
        _, correct = top_label(preds, target)
        return correct[target != NONE].double().mean()


class SelectiveRisk(RowMetric):
    """Areas under the risk-coverage curves, an accepted "none" row being an error (SCOD); lower is better.

    Args:
        kwargs: Options of :class:`torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = SelectiveRisk()
        >>> metric.update(torch.tensor([[0.8, 0.1], [0.2, 0.7], [0.6, 0.3]]), torch.tensor([0, 1, -1]))
        >>> {name: round(float(value), 4) for name, value in metric.compute().items()}
        {'aurc': 0.0833, 'augrc': 0.0833}
    """

    higher_is_better = False

    def compute(self) -> dict[str, Tensor]:
        """Return ``aurc`` and ``augrc``, see :func:`estitchup_pl.functional.risk_areas`, float64."""
        preds, target, none_scores = self.decided()
        _, correct = top_label(preds, target)
        return risk_areas(acceptance(preds, none_scores), correct)._asdict()


class ConfidenceThreshold(RowMetric):
    """Threshold of the acceptance that a rule chooses, by default on rows that contain "none" (Sec. 4.3).

    Args:
        heuristic: Name of one of the paper's heuristics, see :func:`estitchup_pl.functional.select_threshold`, or any
            :class:`~estitchup_pl.thresholds.ThresholdRule`.
        kwargs: Options of :class:`torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = ConfidenceThreshold()
        >>> metric.update(torch.tensor([[0.75, 0.25], [0.25, 0.5]]), torch.tensor([0, -1]))
        >>> 0.5 <= metric.compute() < 0.75
        tensor(True)
    """

    def __init__(self, heuristic: Heuristic | ThresholdRule = "intersection", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rule = threshold_rule(heuristic)

    def compute(self) -> Tensor:
        """Return the threshold, a scalar of the type of the acceptance.

        Raises:
            DataError: If no row is "none", or all are.
        """
        preds, target, none_scores = self.decided()
        return self.rule(acceptance(preds, none_scores), preds.max(dim=1).indices, target)

    def interval(self, groups: Tensor, resamples: int = 200, level: float = 0.95, seed: int = 0) -> ThresholdInterval:
        """Return how far the threshold can be trusted, see :func:`estitchup_pl.functional.threshold_interval`.

        Args:
            groups: Number of the class that each row of the data set really belongs to, int64 ``(rows of the data
                set,)``; :meth:`update` must have been given the ``rows``.
            resamples: Number of resamples.
            level: Share of the resamples that the interval holds.
            seed: Key of the random numbers.

        Raises:
            DataError: As :meth:`compute`.
        """
        preds, target, none_scores = self.decided()
        accepted, predicted = acceptance(preds, none_scores), preds.max(dim=1).indices
        own = groups.to(target.device)[self.row_numbers()]
        return threshold_interval(self.rule, accepted, predicted, target, own, resamples, level, seed)

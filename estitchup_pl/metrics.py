"""torchmetrics metrics over :mod:`estitchup_pl.functional`.

All metrics here keep the same state, the rows that they were shown, so a ``MetricCollection`` keeps it once for
all of them. A row that comes twice is counted once, and rows are put in the order of their numbers: samplers that
pad the last batch, the number of processes and the order of batches have no influence on the result.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from estitchup_pl.batch import NONE
from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.functional import (
    Heuristic,
    ReliabilityBins,
    ThresholdInterval,
    acceptance,
    adaptive_calibration_error,
    classwise_calibration_error,
    confidence_accuracy_correlation,
    expected_calibration_error,
    none_aware_accuracy,
    reliability_bins,
    threshold_interval,
    top_label,
    weighted_aupr,
    weighted_auroc,
    weighted_auroc_aupr,
)
from estitchup_pl.functional.checks import check_bins, check_none_scores, check_predictions
from estitchup_pl.thresholds import ThresholdRule, threshold_rule

_NO_ROW = -1
_NO_SCORE = -1.0  # not NaN, with which torchmetrics would find no two states equal


class RowMetric(Metric):
    """Collects predicted rows, each once; a metric of your own subclasses it and computes on :meth:`predictions`.

    :meth:`none_scores` are the scores of "none" of the same rows. ``compute`` returns a number, or a dict of numbers
    that are logged under their own names.

    Args:
        kwargs: Options of :class:`torchmetrics.Metric`.

    Example:
        >>> class CoverageAt(RowMetric):
        ...     "Share of the known rows whose confidence reaches a level."
        ...     def __init__(self, level: float = 0.9, **kwargs):
        ...         super().__init__(**kwargs)
        ...         self.level = level
        ...     def compute(self):
        ...         probabilities, labels = self.predictions()
        ...         return (probabilities[labels != NONE].amax(dim=1) >= self.level).double().mean()
        >>> metric = CoverageAt(level=0.5)
        >>> metric.update(torch.tensor([[0.75, 0.25], [0.25, 0.375], [0.9, 0.5]]), torch.tensor([0, 1, NONE]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    is_differentiable = False
    full_state_update = False

    preds: list[Tensor]
    target: list[Tensor]
    rows: list[Tensor]
    scores: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dist_sync_fn": gather_rows, **kwargs})
        for state in ("preds", "target", "rows", "scores"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(
        self, preds: Tensor, target: Tensor, rows: Tensor | None = None, none_scores: Tensor | None = None
    ) -> None:
        """Take in predicted rows.

        Args:
            preds: Probabilities, float ``(rows, classes)`` in ``[0, 1]``; never taken for logits.
            target: Class index or ``NONE``, int64 ``(rows,)``.
            rows: Number of each row in its data set, int64 ``(rows,)``; a row that comes twice is counted once.
                Rows without a number are all counted.
            none_scores: Score of "none" in ``[0, 1]``, higher for "none", float ``(rows,)``; one minus the greatest
                probability (the paper's) if not given.

        Raises:
            DataError: If shapes, types or ranges are wrong.
        """
        check_predictions(preds, target)
        if none_scores is not None:
            check_none_scores(none_scores, target)
        rows = torch.full_like(target, _NO_ROW) if rows is None else _checked_rows(rows, target)
        self.preds.append(preds.detach().to(torch.promote_types(preds.dtype, torch.float32)))
        self.target.append(target)
        self.rows.append(rows)
        self.scores.append(_stored_scores(none_scores, target))

    def predictions(self) -> tuple[Tensor, Tensor]:
        """Return all rows seen, each once, in the order of their numbers.

        Returns:
            Probabilities, float ``(rows, classes)`` in ``[0, 1]``, and class index or ``NONE``, int64 ``(rows,)``.

        Raises:
            DataError: If a row came with two different labels.
        """
        preds, target, *_ = self._rows_once()
        return preds, target

    def row_numbers(self) -> Tensor:
        """Return the number of each row of :meth:`predictions`, int64 ``(rows,)``; -1 where it was given none."""
        return self._rows_once()[3]

    def none_scores(self) -> Tensor:
        """Return the score of "none" of each row of :meth:`predictions`.

        Returns:
            Scores in ``[0, 1]``, float64 ``(rows,)``: those that :meth:`update` was given, or one minus the greatest
            probability.

        Raises:
            DataError: If a row came with two different labels.
        """
        preds, _, scores, _ = self._rows_once()
        return _completed(preds, scores)

    def decided(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return :meth:`predictions` and their :meth:`none_scores`, ``None`` where no row was given one.

        That is what functions with a "none" column take: without scores they rank the probabilities themselves,
        in full precision.
        """
        preds, target, scores, _ = self._rows_once()
        given = bool((scores != _NO_SCORE).any())
        return preds, target, _completed(preds, scores) if given else None

    def _rows_once(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if len(self.rows) == 0:
            no_row = torch.empty(0, dtype=torch.int64)
            return torch.empty(0, 1), no_row, torch.empty(0, dtype=torch.float64), no_row
        states = (self.preds, self.target, self.scores, self.rows)
        preds, target, scores, rows = (dim_zero_cat(parts) for parts in states)
        if preds.device.type == "mps":  # which has no float64
            preds, target, scores, rows = preds.cpu(), target.cpu(), scores.cpu().double(), rows.cpu()
        if bool((rows[1:] > rows[:-1]).all()):
            return preds, target, scores, rows
        order = rows.argsort(stable=True)
        first = order[_is_first_of_row(rows[order], target[order])]
        return preds[first], target[first], scores[first], rows[first]


class WeightedAUROC(RowMetric):
    """AUROC averaged over all classes and "none" by support (Table 1).

    Args:
        kwargs: Options of :class:`torchmetrics.Metric`.

    Example:
        >>> metric = WeightedAUROC()
        >>> metric.update(torch.tensor([[0.75, 0.25], [0.5, 0.75], [0.25, 0.125]]), torch.tensor([0, 1, -1]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    higher_is_better = True

    def compute(self) -> Tensor:
        """Return the average, float64; NaN where no class has an AUROC."""
        return weighted_auroc(*self.decided())


class WeightedAUPR(RowMetric):
    """AUPR (average precision) averaged over all classes and "none" by support (Table 1).

    Args:
        kwargs: Options of :class:`torchmetrics.Metric`.

    Example:
        >>> metric = WeightedAUPR()
        >>> metric.update(torch.tensor([[0.75, 0.25], [0.5, 0.75], [0.25, 0.125]]), torch.tensor([0, 1, -1]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    higher_is_better = True

    def compute(self) -> Tensor:
        """Return the average, float64; NaN without rows."""
        return weighted_aupr(*self.decided())


class WeightedRanking(RowMetric):
    """Both figures of Table 1 for the time of one.

    Args:
        kwargs: Options of :class:`torchmetrics.Metric`.

    Example:
        >>> metric = WeightedRanking()
        >>> metric.update(torch.tensor([[0.75, 0.25], [0.5, 0.75], [0.25, 0.125]]), torch.tensor([0, 1, -1]))
        >>> metric.compute()
        {'auroc': tensor(1., dtype=torch.float64), 'aupr': tensor(1., dtype=torch.float64)}
    """

    higher_is_better = True

    def compute(self) -> dict[str, Tensor]:
        """Return ``auroc`` and ``aupr``, the averages over all classes and "none" by support, float64."""
        auroc, aupr = weighted_auroc_aupr(*self.decided())
        return {"auroc": auroc, "aupr": aupr}


class NoneAwareAccuracy(RowMetric):
    """Top-one accuracy with rejection: overall, in-distribution and of "none" (Sec. 3.5).

    Args:
        threshold: Least acceptance (one minus the score of "none"; for the paper's score the confidence), exclusive.
            NaN where none was fitted: everything is accepted. May be set again at any time:
            ``metric.threshold = 0.8``.
        kwargs: Options of :class:`torchmetrics.Metric`.

    Raises:
        ConfigError: If the threshold lies outside ``[0, 1]``.

    Example:
        >>> metric = NoneAwareAccuracy(threshold=0.6)
        >>> metric.update(torch.tensor([[0.25, 0.75], [0.5, 0.25], [0.125, 0.25]]), torch.tensor([1, 0, -1]))
        >>> {name: round(float(value), 2) for name, value in metric.compute().items()}
        {'accuracy': 0.67, 'accuracy_id': 0.5, 'accuracy_none': 1.0}
    """

    higher_is_better = True

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

    def compute(self) -> dict[str, Tensor]:
        """Return ``accuracy``, ``accuracy_id`` and ``accuracy_none``, float64; NaN where there is no such row."""
        preds, target, none_scores = self.decided()
        return none_aware_accuracy(preds, target, self.threshold, none_scores)._asdict()


class TopOneAccuracy(RowMetric):
    """Share of the in-distribution rows whose most likely class is right, before any is rejected.

    Args:
        kwargs: Options of :class:`torchmetrics.Metric`.

    Example:
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


class ConfidenceThreshold(RowMetric):
    """Threshold of the acceptance that a rule chooses, by default on rows that contain "none" (Sec. 4.3).

    Args:
        heuristic: Name of one of the paper's heuristics, see :func:`estitchup_pl.functional.select_threshold`, or any
            :class:`~estitchup_pl.thresholds.ThresholdRule`.
        kwargs: Options of :class:`torchmetrics.Metric`.

    Example:
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


class _TopLabelMetric(RowMetric):
    """Metric of the confidence in the top-one class and of whether that class is right."""

    def __init__(self, num_bins: int, known_only: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_bins(num_bins)
        self.num_bins = num_bins
        self.known_only = known_only

    def _top_label(self) -> tuple[Tensor, Tensor]:
        preds, target = self.predictions()
        if self.known_only:
            known = target != NONE
            preds, target = preds[known], target[known]
        return top_label(preds, target)


class ConfidenceAccuracyCorrelation(_TopLabelMetric):
    """Pearson correlation of mean confidence and accuracy over non-empty bins (Table 2).

    Args:
        num_bins: Bins of equal width.
        known_only: Leave "none" rows out; otherwise each counts as wrong.
        kwargs: Options of :class:`torchmetrics.Metric`.

    Raises:
        ConfigError: If ``num_bins`` is less than one.

    Example:
        >>> metric = ConfidenceAccuracyCorrelation()
        >>> metric.update(torch.tensor([[0.75, 0.0], [0.25, 0.0]]), torch.tensor([0, 1]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    higher_is_better = True

    def __init__(self, num_bins: int = 10, known_only: bool = False, **kwargs: Any) -> None:
        super().__init__(num_bins, known_only, **kwargs)

    def compute(self) -> Tensor:
        """Return the correlation, float64; NaN where it is undefined."""
        return confidence_accuracy_correlation(*self._top_label(), num_bins=self.num_bins)


class ReliabilityDiagram(_TopLabelMetric):
    """Count, mean confidence and accuracy of each bin of confidence (Fig. 4).

    Args:
        num_bins: Bins of equal width.
        known_only: Leave "none" rows out; otherwise each counts as wrong.
        kwargs: Options of :class:`torchmetrics.Metric`.

    Raises:
        ConfigError: If ``num_bins`` is less than one.

    Example:
        >>> metric = ReliabilityDiagram(num_bins=2)
        >>> metric.update(torch.tensor([[0.75, 0.0], [0.25, 0.0]]), torch.tensor([0, 1]))
        >>> metric.compute().accuracy
        tensor([0., 1.], dtype=torch.float64)
    """

    higher_is_better = None

    def __init__(self, num_bins: int = 10, known_only: bool = False, **kwargs: Any) -> None:
        super().__init__(num_bins, known_only, **kwargs)

    def compute(self) -> ReliabilityBins:
        """Return the bins."""
        return reliability_bins(*self._top_label(), num_bins=self.num_bins)


class ExpectedCalibrationError(_TopLabelMetric):
    """Top-label ECE: mean distance of confidence and accuracy over bins of equal width (Guo et al., 2017).

    Args:
        num_bins: Bins of equal width.
        known_only: Leave "none" rows out; otherwise each counts as wrong.
        kwargs: Options of :class:`torchmetrics.Metric`.

    Raises:
        ConfigError: If ``num_bins`` is less than one.

    Example:
        >>> metric = ExpectedCalibrationError()
        >>> metric.update(torch.tensor([[0.75, 0.0], [1.0, 0.0]]), torch.tensor([1, 0]))
        >>> metric.compute()
        tensor(0.3750, dtype=torch.float64)
    """

    higher_is_better = False

    def __init__(self, num_bins: int = 15, known_only: bool = False, **kwargs: Any) -> None:
        super().__init__(num_bins, known_only, **kwargs)

    def compute(self) -> Tensor:
        """Return the error in ``[0, 1]``, float64; NaN without rows."""
        return expected_calibration_error(*self._top_label(), num_bins=self.num_bins)


class AdaptiveCalibrationError(_TopLabelMetric):
    """Top-label calibration error over bins of equal mass (Nguyen & O'Connor, 2015).

    Args:
        num_bins: Bins of equal mass.
        known_only: Leave "none" rows out; otherwise each counts as wrong.
        kwargs: Options of :class:`torchmetrics.Metric`.

    Raises:
        ConfigError: If ``num_bins`` is less than one.

    Example:
        >>> metric = AdaptiveCalibrationError(num_bins=2)
        >>> metric.update(torch.tensor([[0.75, 0.0], [1.0, 0.0]]), torch.tensor([1, 0]))
        >>> metric.compute()
        tensor(0.3750, dtype=torch.float64)
    """

    higher_is_better = False

    def __init__(self, num_bins: int = 15, known_only: bool = False, **kwargs: Any) -> None:
        super().__init__(num_bins, known_only, **kwargs)

    def compute(self) -> Tensor:
        """Return the error in ``[0, 1]``, float64; NaN without rows."""
        return adaptive_calibration_error(*self._top_label(), num_bins=self.num_bins)


class ClasswiseCalibrationError(RowMetric):
    """Mean over classes of the calibration error of each class's own probability (Kull et al., 2019).

    Args:
        num_bins: Bins of equal width.
        kwargs: Options of :class:`torchmetrics.Metric`.

    Raises:
        ConfigError: If ``num_bins`` is less than one.

    Example:
        >>> metric = ClasswiseCalibrationError(num_bins=2)
        >>> metric.update(torch.tensor([[0.75, 0.25], [0.75, 0.0]]), torch.tensor([0, -1]))
        >>> metric.compute()
        tensor(0.1875, dtype=torch.float64)
    """

    higher_is_better = False

    def __init__(self, num_bins: int = 15, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_bins(num_bins)
        self.num_bins = num_bins

    def compute(self) -> Tensor:
        """Return the error in ``[0, 1]``, float64; NaN without rows."""
        return classwise_calibration_error(*self.predictions(), num_bins=self.num_bins).mean()


def default_metrics() -> dict[str, Metric]:
    """Metrics of an evaluation by name, as ``fit``, ``validate`` and ``test`` log them.

    Example:
        >>> ", ".join(default_metrics())
        'ranking, ece, correlation, correlation_id, accuracy'
    """
    return {
        "ranking": WeightedRanking(),
        "ece": ExpectedCalibrationError(),
        "correlation": ConfidenceAccuracyCorrelation(),
        "correlation_id": ConfidenceAccuracyCorrelation(known_only=True),
        "accuracy": NoneAwareAccuracy(),
    }


def _checked_rows(rows: Tensor, target: Tensor) -> Tensor:
    if rows.shape != target.shape or rows.dtype != torch.int64:
        raise DataError(f"rows: expected int64 {tuple(target.shape)}, got {rows.dtype} {tuple(rows.shape)}")
    if bool((rows < 0).any()):
        raise DataError(f"rows: expected rows of a data set, from 0, got {int(rows.min())}")
    return rows


def _stored_scores(none_scores: Tensor | None, target: Tensor) -> Tensor:
    dtype = torch.float32 if target.device.type == "mps" else torch.float64
    if none_scores is None:
        return torch.full(target.shape, _NO_SCORE, dtype=dtype, device=target.device)
    return none_scores.detach().to(dtype)


def _completed(preds: Tensor, scores: Tensor) -> Tensor:
    return scores.where(scores != _NO_SCORE, 1 - preds.amax(dim=1).double())


def _is_first_of_row(rows: Tensor, target: Tensor) -> Tensor:
    """Mark the first of each row among rows that are sorted by their number."""
    is_repeated = torch.zeros_like(rows, dtype=torch.bool)
    is_repeated[1:] = (rows[1:] == rows[:-1]) & (rows[1:] != _NO_ROW)
    contradicting = is_repeated & (target != target.roll(1))
    if bool(contradicting.any()):
        place = int(contradicting.nonzero()[0])
        raise DataError(
            f"rows: row {int(rows[place])} has different labels, {int(target[place - 1])} and "
            f"{int(target[place])}; a row is numbered within the data set, not within the batch"
        )
    return ~is_repeated


def gather_rows(rows: Tensor, group: Any = None) -> list[Tensor]:
    """Gather a state from all processes, some of which may not have seen a row.

    For those, torchmetrics hands over an empty float vector, which no collective can match with the others'
    shapes and types.
    """
    layouts: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(layouts, (rows.shape[1:], rows.dtype, rows.numel() > 0), group=group)
    shape, dtype, _ = max(layouts, key=lambda layout: layout[-1])
    if rows.numel() == 0:
        rows = torch.empty(0, *shape, dtype=dtype, device=rows.device)
    gathered: list[Tensor] = gather_all_tensors(rows, group)
    return gathered

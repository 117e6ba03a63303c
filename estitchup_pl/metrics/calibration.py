"""Calibration: does confidence match the share of right predictions (Table 2, Fig. 4)?"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from estitchup_pl.batch import NONE
from estitchup_pl.functional import (
    ReliabilityBins,
    adaptive_calibration_error,
    brier_score,
    classwise_calibration_error,
    confidence_accuracy_correlation,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_bins,
    top_label,
)
from estitchup_pl.functional.checks import check_bins
from estitchup_pl.metrics.rows import RowMetric


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
        weighted: Let each bin count as often as it has rows, so that no single row can decide.
        kwargs: Options of :class:`torchmetrics.Metric`.

    Raises:
        ConfigError: If ``num_bins`` is less than one.

    Example:
        >>> import torch
        >>> metric = ConfidenceAccuracyCorrelation()
        >>> metric.update(torch.tensor([[0.75, 0.0], [0.25, 0.0]]), torch.tensor([0, 1]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    higher_is_better = True

    def __init__(self, num_bins: int = 10, known_only: bool = False, weighted: bool = False, **kwargs: Any) -> None:
        super().__init__(num_bins, known_only, **kwargs)
        self.weighted = weighted

    def compute(self) -> Tensor:
        """Return the correlation, float64; NaN where it is undefined."""
        return confidence_accuracy_correlation(*self._top_label(), num_bins=self.num_bins, weighted=self.weighted)


class ReliabilityDiagram(_TopLabelMetric):
    """Count, mean confidence and accuracy of each bin of confidence (Fig. 4).

    Args:
        num_bins: Bins of equal width.
        known_only: Leave "none" rows out; otherwise each counts as wrong.
        kwargs: Options of :class:`torchmetrics.Metric`.

    Raises:
        ConfigError: If ``num_bins`` is less than one.

    Example:
        >>> import torch
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
        >>> import torch
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
        >>> import torch
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
        >>> import torch
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


class BrierScore(RowMetric):
    """Brier score over the rows of known classes, summed over the classes' yes-or-no questions.

    Args:
        kwargs: Options of :class:`torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = BrierScore()
        >>> metric.update(torch.tensor([[0.75, 0.5], [0.5, 0.5]]), torch.tensor([0, -1]))
        >>> metric.compute()
        tensor(0.3125, dtype=torch.float64)
    """

    higher_is_better = False

    def compute(self) -> Tensor:
        """Return the score, see :func:`estitchup_pl.functional.brier_score`; NaN without such rows."""
        return brier_score(*self.predictions())


class NegativeLogLikelihood(RowMetric):
    """Negative log-likelihood of the rows of known classes, summed over the classes' yes-or-no questions, in nats.

    Args:
        kwargs: Options of :class:`torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = NegativeLogLikelihood()
        >>> metric.update(torch.tensor([[0.5, 0.5]]), torch.tensor([1]))
        >>> metric.compute()  # twice log 2
        tensor(1.3863, dtype=torch.float64)
    """

    higher_is_better = False

    def compute(self) -> Tensor:
        """Return the mean, see :func:`estitchup_pl.functional.negative_log_likelihood`; NaN without such rows."""
        return negative_log_likelihood(*self.predictions())

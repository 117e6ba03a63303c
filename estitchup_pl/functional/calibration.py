"""Calibration: does confidence match the share of right predictions (Secs. 3.5, 4 and 5.2, Table 2, Fig. 4)?

Bins are half-open, ``[low, high)``, and the last one is closed: a confidence of exactly 1 belongs to the last
bin, one of 0 to the first. A prediction for a "none" row is always wrong: without a threshold, no output says
"none".
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from estitchup_pl.errors import DataError
from estitchup_pl.functional.checks import check_bins, check_predictions, check_probabilities


class ReliabilityBins(NamedTuple):
    """A reliability diagram, each field ``(..., bins)``: one diagram, or one a resample (Fig. 4).

    Attributes:
        counts: Rows in the bin, int64, or the sum of their weights.
        confidence: Mean confidence of its rows, float64, NaN where the bin is empty.
        accuracy: Share of right predictions among them, float64, NaN where the bin is empty.
    """

    counts: Tensor
    confidence: Tensor
    accuracy: Tensor


def top_label(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Reduce predictions to the confidence in the top-one class and whether that class is right.

    Args:
        probabilities: Float ``(rows, classes)`` in ``[0, 1]``.
        labels: Class index or ``NONE``, int64 ``(rows,)``.

    Returns:
        Confidence, float ``(rows,)``, and correctness, bool ``(rows,)``; "none" rows are wrong.

    Raises:
        DataError: If shapes, types or ranges are wrong.

    Example:
        >>> top_label(torch.tensor([[0.25, 0.75], [0.5, 0.0]]), torch.tensor([1, -1]))
        (tensor([0.7500, 0.5000]), tensor([ True, False]))
    """
    check_predictions(probabilities, labels)
    confidence, predicted = probabilities.max(dim=1)
    return confidence, predicted == labels


def reliability_bins(confidence: Tensor, correct: Tensor, num_bins: int = 10) -> ReliabilityBins:
    """Sort rows into bins of equal width by confidence.

    Args:
        confidence: Float ``(rows,)`` in ``[0, 1]``.
        correct: Whether the prediction is right, bool ``(rows,)``.
        num_bins: Bins that part ``[0, 1]``.

    Returns:
        Count, mean confidence and accuracy of each bin, ``(bins,)``.

    Raises:
        ConfigError: If ``num_bins`` is less than one.
        DataError: If shapes or ranges are wrong.

    Example:
        >>> confidence, correct = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([False, True, True])
        >>> bins = reliability_bins(confidence, correct, num_bins=2)
        >>> bins.counts, bins.confidence, bins.accuracy
        (tensor([1, 2]), tensor([0.0000, 0.7500], dtype=torch.float64), tensor([0., 1.], dtype=torch.float64))
    """
    _check_rows(confidence, correct)
    return _mean_over_bins(confidence, correct, equal_width_index(confidence, num_bins), num_bins)


def expected_calibration_error(confidence: Tensor, correct: Tensor, num_bins: int = 15) -> Tensor:
    """Mean distance of confidence and accuracy over bins of equal width, weighted by rows (Guo et al., 2017).

    Args:
        confidence: Confidence in the top-one class, float ``(rows,)`` in ``[0, 1]``.
        correct: Whether that class is right, bool ``(rows,)``.
        num_bins: Bins that part ``[0, 1]``.

    Returns:
        Error in ``[0, 1]``, float64 scalar; NaN without rows.

    Raises:
        ConfigError: If ``num_bins`` is less than one.
        DataError: If shapes or ranges are wrong.

    Example:
        >>> expected_calibration_error(torch.tensor([0.75, 1.0]), torch.tensor([False, True]), num_bins=10)
        tensor(0.3750, dtype=torch.float64)
    """
    return binned_calibration_error(reliability_bins(confidence, correct, num_bins))


def binned_calibration_error(bins: ReliabilityBins) -> Tensor:
    """Mean distance of confidence and accuracy over bins, weighted by rows: what every calibration error here is.

    Args:
        bins: Bins that are counted already, such as those of resampled rows, each field ``(..., bins)``.

    Returns:
        Error in ``[0, 1]``, float64 ``(...)``; NaN without rows.

    Example:
        >>> bins = reliability_bins(torch.tensor([0.75, 1.0]), torch.tensor([False, True]))
        >>> binned_calibration_error(bins)
        tensor(0.3750, dtype=torch.float64)
    """
    gap = (bins.confidence - bins.accuracy).abs()
    return (gap * bins.counts).nansum(dim=-1) / bins.counts.sum(dim=-1)


def adaptive_calibration_error(confidence: Tensor, correct: Tensor, num_bins: int = 15) -> Tensor:
    """Calibration error over bins of equal mass instead of equal width (Nguyen & O'Connor, 2015).

    Rows are parted by the rank of their confidence. Rows with equal confidence share their middle rank, and so
    their bin, so that the order of rows has no influence; bins can then be uneven or empty.

    Args:
        confidence: Confidence in the top-one class, float ``(rows,)`` in ``[0, 1]``.
        correct: Whether that class is right, bool ``(rows,)``.
        num_bins: Bins that part the rows.

    Returns:
        Error in ``[0, 1]``, float64 scalar; NaN without rows.

    Raises:
        ConfigError: If ``num_bins`` is less than one.
        DataError: If shapes or ranges are wrong.

    Example:
        >>> confidence = torch.tensor([0.75, 0.75, 1.0, 1.0])
        >>> adaptive_calibration_error(confidence, torch.tensor([True, False, True, True]), num_bins=2)
        tensor(0.1250, dtype=torch.float64)
    """
    check_bins(num_bins)
    _check_rows(confidence, correct)
    return binned_calibration_error(
        _mean_over_bins(confidence, correct, _equal_mass_index(confidence, num_bins), num_bins)
    )


def classwise_calibration_error(probabilities: Tensor, labels: Tensor, num_bins: int = 15) -> Tensor:
    """Calibration error of each class's probability against its own frequency (Kull et al., 2019).

    Every class is a yes-or-no question put to every row, as the classifier's sigmoids pose it; "none" rows
    answer no to all. The mean over classes is the usual classwise ECE.

    Args:
        probabilities: Float ``(rows, classes)`` in ``[0, 1]``.
        labels: Class index or ``NONE``, int64 ``(rows,)``.
        num_bins: Bins that part ``[0, 1]``.

    Returns:
        Error of each class in ``[0, 1]``, float64 ``(classes,)``; NaN without rows.

    Raises:
        ConfigError: If ``num_bins`` is less than one.
        DataError: If shapes, types or ranges are wrong.

    Example:
        >>> probabilities = torch.tensor([[0.75, 0.25], [0.75, 0.0]])
        >>> classwise_calibration_error(probabilities, torch.tensor([0, -1]), num_bins=2)
        tensor([0.2500, 0.1250], dtype=torch.float64)
    """
    check_bins(num_bins)
    check_predictions(probabilities, labels)
    columns = enumerate(probabilities.unbind(dim=1))
    return torch.stack([expected_calibration_error(column, labels == index, num_bins) for index, column in columns])


def confidence_accuracy_correlation(
    confidence: Tensor, correct: Tensor, num_bins: int = 10, weighted: bool = False
) -> Tensor:
    """Pearson correlation of mean confidence and accuracy over the non-empty bins (Table 2).

    Pass all rows for the paper's figure, in which a "none" row counts as wrong, or the rows of known classes. In the
    paper's figure every bin counts once, so that a single row, alone in its bin, can take it from 1 to 0.5: weighted by
    rows it cannot.

    Args:
        confidence: Confidence in the top-one class, float ``(rows,)`` in ``[0, 1]``.
        correct: Whether that class is right, bool ``(rows,)``.
        num_bins: Bins of equal width that part ``[0, 1]``.
        weighted: Let each bin count as often as it has rows.

    Returns:
        Correlation in ``[-1, 1]``, float64 scalar; NaN where it is undefined: fewer than two non-empty
        bins, or one accuracy common to all of them.

    Raises:
        ConfigError: If ``num_bins`` is less than one.
        DataError: If shapes or ranges are wrong.

    Example:
        >>> confidence = torch.tensor([0.25, 0.25, 0.75, 0.75])
        >>> confidence_accuracy_correlation(confidence, torch.tensor([False, False, True, False]))
        tensor(1., dtype=torch.float64)
    """
    return binned_correlation(reliability_bins(confidence, correct, num_bins), weighted)


def binned_correlation(bins: ReliabilityBins, weighted: bool = False) -> Tensor:
    """Pearson correlation of mean confidence and accuracy over the non-empty of bins that are counted already.

    Args:
        bins: Bins, such as those of resampled rows, each field ``(..., bins)``.
        weighted: Let each bin count as often as it has rows.

    Returns:
        Correlation in ``[-1, 1]``, float64 ``(...)``; NaN where it is undefined, see
        :func:`confidence_accuracy_correlation`.

    Example:
        >>> confidence = torch.tensor([0.25, 0.25, 0.75, 0.75])
        >>> binned_correlation(reliability_bins(confidence, torch.tensor([False, False, True, False])))
        tensor(1., dtype=torch.float64)
    """
    weights = (bins.counts if weighted else bins.counts > 0).to(bins.confidence)
    x, y = _deviations(bins.confidence, weights), _deviations(bins.accuracy, weights)
    scale = ((weights * x.square()).nansum(dim=-1) * (weights * y.square()).nansum(dim=-1)).sqrt()
    return ((weights * x * y).nansum(dim=-1) / scale).clamp(-1, 1)


def equal_width_index(values: Tensor, num_bins: int) -> Tensor:
    """Index of the bin ``[low, high)`` of each value, the last one closed, int64 in the shape of ``values``."""
    check_bins(num_bins)
    inner_edges = torch.arange(1, num_bins, device=values.device, dtype=torch.float64) / num_bins
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    return torch.bucketize(values.contiguous(), inner_edges.to(values.dtype), right=True)


def _equal_mass_index(confidence: Tensor, num_bins: int) -> Tensor:
    ascending, confidence = confidence.sort().values, confidence.contiguous()
    lower, upper = (torch.searchsorted(ascending, confidence, right=right) for right in (False, True))
    doubled_middle_rank = lower + upper - 1
    return doubled_middle_rank * num_bins // (2 * max(len(confidence), 1))


def _mean_over_bins(confidence: Tensor, correct: Tensor, index: Tensor, num_bins: int) -> ReliabilityBins:
    counts = index.bincount(minlength=num_bins)
    sums = torch.zeros(2, num_bins, dtype=torch.float64, device=index.device)
    sums = sums.index_add_(1, index, torch.stack([confidence.double(), correct.double()]))
    return ReliabilityBins(counts, *(sums / counts))


def _deviations(values: Tensor, weights: Tensor) -> Tensor:
    """Subtract the mean of what is not NaN; equal values are exactly zero, which their rounded mean would not give."""
    above_least = values - values.nan_to_num(torch.inf).amin(dim=-1, keepdim=True)
    mean = (weights * above_least).nansum(dim=-1, keepdim=True) / weights.sum(dim=-1, keepdim=True)
    return above_least - mean


def _check_rows(confidence: Tensor, correct: Tensor) -> None:
    if confidence.ndim != 1 or confidence.shape != correct.shape:
        raise DataError(
            "confidence and correct: expected two equal shapes (rows,), "
            f"got {tuple(confidence.shape)} and {tuple(correct.shape)}"
        )
    check_probabilities(confidence, "confidence")

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
    """A reliability diagram, each field ``(*stack, bins)`` (Fig. 4).

    Attributes:
        counts: Rows in the bin, int64.
        confidence: Mean confidence of its rows, float64, NaN where the bin is empty.
        accuracy: Share of right predictions among them, float64, NaN where the bin is empty.
    """

    counts: Tensor
    confidence: Tensor
    accuracy: Tensor


def top_label(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Reduce predictions to the confidence in the top-one class and whether that class is right.

    Args:
        probabilities: Float ``(*stack, rows, classes)`` in ``[0, 1]``.
        labels: Class index or ``NONE``, int64 ``(*stack, rows)``.

    Returns:
        Confidence, float ``(*stack, rows)``, and correctness, bool ``(*stack, rows)``; "none" rows are wrong.

    Raises:
        DataError: If shapes, types or ranges are wrong.

    Example:
        >>> top_label(torch.tensor([[0.25, 0.75], [0.5, 0.0]]), torch.tensor([1, -1]))
        (tensor([0.7500, 0.5000]), tensor([ True, False]))
    """
    check_predictions(probabilities, labels)
    confidence, predicted = probabilities.max(dim=-1)
    return confidence, predicted == labels


def reliability_bins(confidence: Tensor, correct: Tensor, num_bins: int = 10) -> ReliabilityBins:
    """Sort rows into bins of equal width by confidence.

    Args:
        confidence: Float ``(*stack, rows)`` in ``[0, 1]``.
        correct: Whether the prediction is right, bool ``(*stack, rows)``.
        num_bins: Bins that part ``[0, 1]``.

    Returns:
        Count, mean confidence and accuracy of each bin, ``(*stack, bins)``.

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
        confidence: Confidence in the top-one class, float ``(*stack, rows)`` in ``[0, 1]``.
        correct: Whether that class is right, bool ``(*stack, rows)``.
        num_bins: Bins that part ``[0, 1]``.

    Returns:
        Error in ``[0, 1]``, float64 ``(*stack,)``; NaN without rows.

    Raises:
        ConfigError: If ``num_bins`` is less than one.
        DataError: If shapes or ranges are wrong.

    Example:
        >>> expected_calibration_error(torch.tensor([0.75, 1.0]), torch.tensor([False, True]), num_bins=10)
        tensor(0.3750, dtype=torch.float64)
    """
    return _weighted_gap(reliability_bins(confidence, correct, num_bins))


def adaptive_calibration_error(confidence: Tensor, correct: Tensor, num_bins: int = 15) -> Tensor:
    """Calibration error over bins of equal mass instead of equal width (Nguyen & O'Connor, 2015).

    Rows are parted by the rank of their confidence. Rows with equal confidence share their middle rank, and so
    their bin, so that the order of rows has no influence; bins can then be uneven or empty.

    Args:
        confidence: Confidence in the top-one class, float ``(*stack, rows)`` in ``[0, 1]``.
        correct: Whether that class is right, bool ``(*stack, rows)``.
        num_bins: Bins that part the rows.

    Returns:
        Error in ``[0, 1]``, float64 ``(*stack,)``; NaN without rows.

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
    return _weighted_gap(_mean_over_bins(confidence, correct, _equal_mass_index(confidence, num_bins), num_bins))


def classwise_calibration_error(probabilities: Tensor, labels: Tensor, num_bins: int = 15) -> Tensor:
    """Calibration error of each class's probability against its own frequency (Kull et al., 2019).

    Every class is a yes-or-no question put to every row, as the classifier's sigmoids pose it; "none" rows
    answer no to all. The mean over classes is the usual classwise ECE.

    Args:
        probabilities: Float ``(*stack, rows, classes)`` in ``[0, 1]``.
        labels: Class index or ``NONE``, int64 ``(*stack, rows)``.
        num_bins: Bins that part ``[0, 1]``.

    Returns:
        Error of each class in ``[0, 1]``, float64 ``(*stack, classes)``; NaN without rows.

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
    *stack, rows, classes = probabilities.shape
    gap_sums = torch.zeros(*stack, num_bins, classes, dtype=torch.float64, device=labels.device)
    for block, block_labels in zip(
        torch.split(probabilities, _ROWS_PER_BLOCK, dim=-2),
        torch.split(labels, _ROWS_PER_BLOCK, dim=-1),
        strict=True,
    ):
        is_own = block_labels.unsqueeze(-1) == torch.arange(classes, device=labels.device)
        gap_sums.scatter_add_(-2, equal_width_index(block, num_bins), block.double() - is_own.double())
    return gap_sums.abs().sum(dim=-2) / rows


def confidence_accuracy_correlation(confidence: Tensor, correct: Tensor, num_bins: int = 10) -> Tensor:
    """Pearson correlation of mean confidence and accuracy over the non-empty bins (Table 2).

    Pass all rows for the paper's figure, in which a "none" row counts as wrong, or the rows of known classes.

    Args:
        confidence: Confidence in the top-one class, float ``(*stack, rows)`` in ``[0, 1]``.
        correct: Whether that class is right, bool ``(*stack, rows)``.
        num_bins: Bins of equal width that part ``[0, 1]``.

    Returns:
        Correlation in ``[-1, 1]``, float64 ``(*stack,)``; NaN where it is undefined: fewer than two non-empty
        bins, or one accuracy common to all of them.

    Raises:
        ConfigError: If ``num_bins`` is less than one.
        DataError: If shapes or ranges are wrong.

    Example:
        >>> confidence = torch.tensor([0.25, 0.25, 0.75, 0.75])
        >>> confidence_accuracy_correlation(confidence, torch.tensor([False, False, True, False]))
        tensor(1., dtype=torch.float64)
    """
    bins = reliability_bins(confidence, correct, num_bins)
    filled = bins.counts > 0
    number = filled.sum(dim=-1, keepdim=True)
    deviations = []
    constant = torch.zeros(filled.shape[:-1], dtype=torch.bool, device=filled.device)
    for values in (bins.confidence, bins.accuracy):
        known = values.where(filled, 0)
        deviations.append((known - known.sum(dim=-1, keepdim=True) / number).where(filled, 0))
        # Compared as they are: the rounded mean of equal values can leave a spurious deviation.
        constant |= values.where(filled, -torch.inf).amax(-1) <= values.where(filled, torch.inf).amin(-1)
    x, y = deviations
    correlation = (x * y).sum(dim=-1) / (x.square().sum(dim=-1) * y.square().sum(dim=-1)).sqrt()
    return correlation.clamp(-1, 1).where(~constant, torch.nan)


_ROWS_PER_BLOCK = 4096  # bounds the working memory of the classwise error


def equal_width_index(values: Tensor, num_bins: int) -> Tensor:
    """Index of the bin ``[low, high)`` of each value, the last one closed, int64 in the shape of ``values``."""
    check_bins(num_bins)
    inner_edges = torch.arange(1, num_bins, device=values.device, dtype=torch.float64) / num_bins
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    return torch.bucketize(values, inner_edges.to(values.dtype), right=True)


def _equal_mass_index(confidence: Tensor, num_bins: int) -> Tensor:
    ascending = confidence.sort(dim=-1).values
    confidence = confidence.contiguous()
    lower = torch.searchsorted(ascending, confidence)
    upper = torch.searchsorted(ascending, confidence, right=True)
    doubled_middle_rank = lower + upper - 1
    return doubled_middle_rank * num_bins // (2 * max(confidence.shape[-1], 1))


def _mean_over_bins(confidence: Tensor, correct: Tensor, index: Tensor, num_bins: int) -> ReliabilityBins:
    count, confidence_sum, right = (
        torch.zeros(*index.shape[:-1], num_bins, dtype=dtype, device=index.device).scatter_add_(
            -1, index, values.to(dtype)
        )
        for values, dtype in (
            (torch.ones_like(index), torch.int64),
            (confidence, torch.float64),
            (correct, torch.int64),
        )
    )
    return ReliabilityBins(count, confidence_sum / count, right.double() / count)


def _weighted_gap(bins: ReliabilityBins) -> Tensor:
    gap = (bins.confidence - bins.accuracy).abs().where(bins.counts > 0, 0)
    return (gap * bins.counts).sum(dim=-1) / bins.counts.sum(dim=-1)


def _check_rows(confidence: Tensor, correct: Tensor) -> None:
    if confidence.shape != correct.shape or confidence.ndim == 0:
        raise DataError(
            "confidence and correct: expected two equal shapes (*stack, rows), "
            f"got {tuple(confidence.shape)} and {tuple(correct.shape)}"
        )
    check_probabilities(confidence, "confidence")

"""Rejection into the "none" category (Sec. 2.5) and the choice of its threshold (Sec. 4.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from estitchup_pl.batch import NONE
from estitchup_pl.errors import ConfigError
from estitchup_pl.functional.checks import check_none_scores, check_predictions
from estitchup_pl.functional.cuts import CutCounts, best_cut, count_cuts

Heuristic = Literal["intersection", "tp_ratio"]
"""How a confidence threshold is chosen; see :func:`select_threshold`."""

HEURISTICS: Final[tuple[Heuristic, ...]] = get_args(Heuristic)


class ThresholdCurves(NamedTuple):
    """What each confidence threshold would bring, each field ``(thresholds,)`` (Figs. 3 and 6).

    Attributes:
        thresholds: Confidence thresholds.
        accuracy: Share of all rows that are decided rightly (Sec. 3.5).
        accuracy_id: Share of the in-distribution rows that are accepted with their own class.
        accuracy_none: Share of the "none" rows that are rejected.
        ratio_id: TP / (FP + FN), counted over all in-distribution classes together.
        ratio_none: TP / (FP + FN) of the "none" category.

    An accuracy is NaN where there is no such row; a ratio is infinite where there are hits and no errors.
    """

    thresholds: Tensor
    accuracy: Tensor
    accuracy_id: Tensor
    accuracy_none: Tensor
    ratio_id: Tensor
    ratio_none: Tensor


class NoneAwareAccuracies(NamedTuple):
    """Accuracy with "none" as a possible decision, each field a float64 scalar (Sec. 3.5).

    Attributes:
        accuracy: Share of all rows that are decided rightly.
        accuracy_id: Share of the in-distribution rows that are accepted with their own class.
        accuracy_none: Share of the "none" rows that are rejected.

    An accuracy is NaN where there is no such row.
    """

    accuracy: Tensor
    accuracy_id: Tensor
    accuracy_none: Tensor


def none_score(probabilities: Tensor) -> Tensor:
    """Score of the "none" category: one minus the greatest class probability.

    Args:
        probabilities: Float ``(rows, classes)``.

    Returns:
        Scores ``(rows,)``.

    Example:
        >>> none_score(torch.tensor([[0.25, 0.75], [0.0, 0.0]]))
        tensor([0.2500, 1.0000])
    """
    return 1 - probabilities.amax(dim=1)


def acceptance(probabilities: Tensor, none_scores: Tensor | None = None) -> Tensor:
    """How much a prediction deserves to be accepted: what thresholds are compared with and chosen on.

    One minus the score of "none". For the paper's score that is the confidence itself, the greatest probability.

    Args:
        probabilities: Float ``(rows, classes)``.
        none_scores: Score of "none" in ``[0, 1]``, higher for "none", float ``(rows,)``; the paper's if not given.

    Returns:
        Acceptance ``(rows,)``, in the type of ``probabilities``, or in float32 where scores are given.

    Example:
        >>> probabilities = torch.tensor([[0.25, 0.75], [0.5, 0.0]])
        >>> acceptance(probabilities), acceptance(probabilities, torch.tensor([0.875, 0.0]))
        (tensor([0.7500, 0.5000]), tensor([0.1250, 1.0000]))
    """
    if none_scores is None:
        return probabilities.amax(dim=1)
    return (1 - none_scores.double()).float()


def reject(probabilities: Tensor, threshold: float | Tensor, none_scores: Tensor | None = None) -> Tensor:
    """Predict the class of greatest probability where the acceptance exceeds the threshold, else "none" (Sec. 2.5).

    Args:
        probabilities: Float ``(rows, classes)``.
        threshold: A number or a scalar tensor, compared in the type of the :func:`acceptance`. NaN where none was
            fitted: everything is accepted.
        none_scores: Score of "none" in ``[0, 1]``, higher for "none", float ``(rows,)``; one minus the greatest
            probability (the paper's) if not given.

    Returns:
        Class index or ``NONE``, int64 ``(rows,)``.

    Example:
        >>> probabilities = torch.tensor([[0.25, 0.75], [0.5, 0.25]])
        >>> reject(probabilities, 0.5), reject(probabilities, 0.5, none_scores=torch.tensor([0.75, 0.25]))
        (tensor([ 1, -1]), tensor([-1,  0]))
        >>> reject(probabilities, torch.nan)
        tensor([1, 0])
    """
    unfitted = torch.as_tensor(threshold, device=probabilities.device).isnan()
    accepted = (acceptance(probabilities, none_scores) > threshold) | unfitted
    return torch.where(accepted, probabilities.max(dim=1).indices, NONE)


def none_aware_accuracy(
    probabilities: Tensor, labels: Tensor, threshold: float | Tensor, none_scores: Tensor | None = None
) -> NoneAwareAccuracies:
    """Measure top-one accuracy after rejection by a threshold (Sec. 3.5).

    Args:
        probabilities: Float ``(rows, classes)`` in ``[0, 1]``.
        labels: Class index or ``NONE``, int64 ``(rows,)``.
        threshold: A number or a scalar tensor; NaN accepts everything.
        none_scores: Score of "none" in ``[0, 1]``, higher for "none", float ``(rows,)``; one minus the greatest
            probability (the paper's) if not given.

    Returns:
        Overall, in-distribution and "none" accuracy.

    Raises:
        DataError: If shapes, types or ranges are wrong.

    Example:
        >>> probabilities = torch.tensor([[0.25, 0.75], [0.5, 0.25], [0.125, 0.25]])
        >>> accuracies = none_aware_accuracy(probabilities, torch.tensor([1, 0, -1]), threshold=0.6)
        >>> accuracies.accuracy_id, accuracies.accuracy_none
        (tensor(0.5000, dtype=torch.float64), tensor(1., dtype=torch.float64))
    """
    check_predictions(probabilities, labels)
    if none_scores is not None:
        check_none_scores(none_scores, labels)
    right, is_none = reject(probabilities, threshold, none_scores) == labels, labels == NONE
    everything = torch.ones_like(is_none)
    return NoneAwareAccuracies(
        *((right & rows).sum().double() / rows.sum() for rows in (everything, ~is_none, is_none))
    )


def threshold_curves(
    confidence: Tensor, predicted: Tensor, labels: Tensor, thresholds: Tensor | None = None
) -> ThresholdCurves:
    """Evaluate accuracies and TP / (FP + FN) ratios over a grid of confidence thresholds.

    Args:
        confidence: Greatest class probability, or the :func:`acceptance` where "none" has a score of its own;
            float ``(rows,)`` in ``[0, 1]``.
        predicted: Class of greatest probability, int64 ``(rows,)``.
        labels: Class index or ``NONE``, int64 ``(rows,)``.
        thresholds: Grid ``(thresholds,)``; from 0 to 1 in steps of 0.01 if not given.

    Returns:
        The curves, float64.

    Raises:
        DataError: If the shapes differ or a confidence lies outside ``[0, 1]``.

    Example:
        >>> curves = threshold_curves(
        ...     torch.tensor([0.9, 0.4]), torch.tensor([3, 5]), torch.tensor([3, -1]), torch.tensor([0.0, 0.5])
        ... )
        >>> curves.accuracy, curves.accuracy_none
        (tensor([0.5000, 1.0000], dtype=torch.float64), tensor([0., 1.], dtype=torch.float64))
    """
    counts, ascending = count_cuts(confidence, predicted, labels)
    if thresholds is None:
        thresholds = torch.arange(101, dtype=torch.float64, device=confidence.device) / 100
    thresholds = thresholds.to(ascending).contiguous()
    at = counts.after_rejecting(torch.searchsorted(ascending, thresholds, right=True))
    return ThresholdCurves(
        thresholds, at.accuracy(), at.accuracy_id(), at.accuracy_none(), at.ratio_id(), at.ratio_none()
    )


def select_threshold(
    confidence: Tensor, predicted: Tensor, labels: Tensor, heuristic: Heuristic = "intersection"
) -> Tensor:
    """Choose the confidence threshold on validation rows that contain "none" rows (Sec. 4.3).

    The search is exact: rows with equal confidence stand or fall together, and every way to part the sorted
    confidences is evaluated. Of equally good ones the lowest threshold wins, which rejects the fewest rows. The
    threshold returned lies midway between the greatest confidence rejected (or 0) and the smallest one accepted
    (or 1); where rounding would carry it onto the latter it is the former, so that ``confidence > threshold``,
    in the type of ``confidence``, always yields the very decisions that were evaluated.

    Args:
        confidence: Greatest class probability, or the :func:`acceptance` where "none" has a score of its own;
            float ``(rows,)`` in ``[0, 1]``.
        predicted: Class of greatest probability, int64 ``(rows,)``.
        labels: Class index or ``NONE``, int64 ``(rows,)``.
        heuristic: ``"intersection"``: overall and "none" accuracy are equal or, if they do not meet, closest.
            ``"tp_ratio"``: the mean of the TP / (FP + FN) ratios of the in-distribution classes and of "none"
            is greatest; a threshold that parts "none" from all else without error is infinitely good and wins.

    Returns:
        Threshold in ``[0, 1]``, a scalar in the type of ``confidence``.

    Raises:
        ConfigError: If there is no such heuristic.
        DataError: If shapes or ranges are wrong, or there is no "none" row or no in-distribution row.

    Example:
        >>> confidence = torch.tensor([0.9, 0.8, 0.4, 0.2])
        >>> select_threshold(confidence, torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, -1, -1]))
        tensor(0.6000)
    """
    if heuristic not in _OBJECTIVES:
        raise ConfigError(f"heuristic: expected one of {', '.join(_OBJECTIVES)}, got {heuristic!r}")
    counts, ascending = count_cuts(confidence, predicted, labels)
    counts.check_both_kinds()
    return best_cut(ascending, _OBJECTIVES[heuristic](counts))


def _closeness_of_accuracies(counts: CutCounts) -> Tensor:
    """Minus the distance of overall and "none" accuracy times both counts of rows: exact in integers."""
    right = counts.accepted_right + counts.rejected_none
    return -(right * counts.none_rows - counts.rejected_none * counts.rows).abs()


def _sum_of_ratios(counts: CutCounts) -> Tensor:
    return counts.ratio_id() + counts.ratio_none()


_OBJECTIVES: Final[dict[str, Callable[[CutCounts], Tensor]]] = {
    "intersection": _closeness_of_accuracies,
    "tp_ratio": _sum_of_ratios,
}

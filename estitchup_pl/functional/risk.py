"""Selective classification: how often is what is accepted wrong, and how much is accepted?

A decision is accepted where its acceptance (one minus the score of "none") is great enough. A "none" row that is
accepted is an error, as is a known row with another class: selective classification with out-of-distribution rows
(SCOD).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from estitchup_pl.errors import DataError
from estitchup_pl.functional.checks import check_probabilities


class AcceptedAccuracy(NamedTuple):
    """What a threshold lets through, each field a float64 scalar.

    Attributes:
        accuracy: Share of right decisions among the accepted rows; NaN where none is accepted.
        coverage: Share of all rows that are accepted; NaN without rows.
    """

    accuracy: Tensor
    coverage: Tensor


class RiskCoverage(NamedTuple):
    """Risk for every possible coverage, ascending, each field float64 ``(points,)``.

    Attributes:
        coverage: Share of the rows that are accepted, in ``(0, 1]``.
        risk: Share of errors among them.
    """

    coverage: Tensor
    risk: Tensor


class RiskAreas(NamedTuple):
    """Areas under risk over coverage, each a float64 scalar; NaN with fewer than two rows.

    Attributes:
        aurc: Mean risk over all coverages (Geifman & El-Yaniv, 2017).
        augrc: Mean share of all rows that are accepted *and* wrong (Traub et al., 2024): the risk is weighted by its
            coverage, so that the few surest rows do not decide.
    """

    aurc: Tensor
    augrc: Tensor


def accepted_accuracy(acceptance: Tensor, correct: Tensor, threshold: float | Tensor) -> AcceptedAccuracy:
    """Measure what a threshold lets through.

    Args:
        acceptance: Float ``(rows,)`` in ``[0, 1]``.
        correct: Whether the class is right, bool ``(rows,)``; never for a "none" row.
        threshold: A row is accepted where its acceptance exceeds it; NaN accepts everything.

    Returns:
        Accuracy among the accepted rows, and their share.

    Raises:
        DataError: If shapes or ranges are wrong.

    Example:
        >>> accepted_accuracy(torch.tensor([0.9, 0.7, 0.2]), torch.tensor([True, False, True]), 0.5)
        AcceptedAccuracy(accuracy=tensor(0.5000, dtype=torch.float64), coverage=tensor(0.6667, dtype=torch.float64))
    """
    _check(acceptance, correct)
    accepted = (acceptance > threshold) | torch.as_tensor(threshold, device=acceptance.device).isnan()
    return AcceptedAccuracy(correct[accepted].double().mean(), accepted.double().mean())


def risk_coverage(acceptance: Tensor, correct: Tensor) -> RiskCoverage:
    """Accept rows from the surest down; rows of equal acceptance together.

    Args:
        acceptance: Float ``(rows,)`` in ``[0, 1]``.
        correct: Whether the class is right, bool ``(rows,)``; never for a "none" row.

    Returns:
        The curve, one point for each distinct acceptance.

    Raises:
        DataError: If shapes or ranges are wrong.

    Example:
        >>> curve = risk_coverage(torch.tensor([0.9, 0.7, 0.7, 0.2]), torch.tensor([True, False, True, True]))
        >>> curve.coverage.tolist(), curve.risk
        ([0.25, 0.75, 1.0], tensor([0.0000, 0.3333, 0.2500], dtype=torch.float64))
    """
    sizes, errors = _tied(acceptance, correct)
    accepted = sizes.cumsum(0).double()
    return RiskCoverage(accepted / max(len(acceptance), 1), errors.cumsum(0) / accepted)


def risk_areas(acceptance: Tensor, correct: Tensor) -> RiskAreas:
    """Areas under the risk-coverage curve and under the generalized one.

    By the trapezoidal rule over coverages of one row to all, scaled to a width of one, as torch-uncertainty does
    (``AURC``, ``AUGRC``); of rows of equal acceptance the mean over all orders is taken, where that library takes
    whichever order the sorting has left.

    Args:
        acceptance: Float ``(rows,)`` in ``[0, 1]``.
        correct: Whether the class is right, bool ``(rows,)``; never for a "none" row.

    Returns:
        The areas, lower is better: AURC in ``[0, 1]``, AUGRC in ``[0, 1 / 2]`` but for few rows.

    Raises:
        DataError: If shapes or ranges are wrong.

    Example:
        >>> areas = risk_areas(torch.tensor([0.8, 0.7, 0.6]), torch.tensor([True, True, False]))
        >>> round(float(areas.aurc), 4), round(float(areas.augrc), 4)
        (0.0833, 0.0833)
    """
    sizes, errors = _tied(acceptance, correct)
    if len(acceptance) < 2:
        undefined = acceptance.new_tensor(torch.nan, dtype=torch.float64)
        return RiskAreas(undefined, undefined)
    expected = (errors / sizes).repeat_interleave(sizes).cumsum(0)
    ranks = torch.arange(1, len(acceptance) + 1, device=acceptance.device)
    steps = len(acceptance) - 1
    return RiskAreas(
        torch.trapezoid(expected / ranks) / steps,
        torch.trapezoid(expected / len(acceptance)) / steps,
    )


def _tied(acceptance: Tensor, correct: Tensor) -> tuple[Tensor, Tensor]:
    """Rows, int64, and errors, float64, of each distinct acceptance, the greatest first."""
    _check(acceptance, correct)
    _, place, sizes = torch.unique(-acceptance, return_inverse=True, return_counts=True)
    errors = torch.zeros(len(sizes), dtype=torch.float64, device=acceptance.device)
    return sizes, errors.index_add_(0, place, (~correct).double())


def _check(acceptance: Tensor, correct: Tensor) -> None:
    if acceptance.ndim != 1 or acceptance.shape != correct.shape or correct.dtype != torch.bool:
        raise DataError(
            "acceptance and correct: expected numbers and bools of equal shape (rows,), "
            f"got {tuple(acceptance.shape)} and {correct.dtype} {tuple(correct.shape)}"
        )
    check_probabilities(acceptance, "acceptance")

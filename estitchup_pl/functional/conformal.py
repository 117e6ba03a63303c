"""Prediction sets that hold the right class as often as is asked (split conformal prediction; Sadinle et al., 2019).

The promise speaks of new items of known classes that are drawn as the validation rows were, on average over such
items; it needs no assumption on the model. Of items of unknown classes it says nothing: whether an item is "none" is
decided before, by the threshold.
"""

from __future__ import annotations

import math

from torch import Tensor

from estitchup_pl.batch import NONE
from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.functional.checks import check_predictions, check_probabilities


def nonconformity(probabilities: Tensor, labels: Tensor) -> Tensor:
    """How unlikely the right class was in rows that no fit has seen: all that sets of any level need of them.

    Args:
        probabilities: Float ``(rows, classes)`` in ``[0, 1]``; they need not sum to one.
        labels: Class index or ``NONE``, int64 ``(rows,)``; "none" rows are left out.

    Returns:
        ``1 - p`` of the right class, ascending, float64 ``(rows of known classes,)``.

    Raises:
        DataError: If shapes, types or ranges are wrong.

    Example:
        >>> import torch
        >>> probabilities = torch.tensor([[0.75, 0.25], [0.5, 0.5], [0.125, 0.875]])
        >>> nonconformity(probabilities, torch.tensor([0, NONE, 1]))
        tensor([0.1250, 0.2500], dtype=torch.float64)
    """
    check_predictions(probabilities, labels)
    known = (labels != NONE).nonzero().squeeze(1)
    return (1 - probabilities[known, labels[known]].double()).sort().values


def level_quantile(unlikely: Tensor, level: float = 0.9) -> float:
    """Find how unlikely a class of a set may be, so that so large a share of sets holds the right one.

    Args:
        unlikely: What :func:`nonconformity` returns.
        level: Share of items whose set is to hold their class, in ``(0, 1)``.

    Returns:
        The ``ceil((rows + 1) level)``-th smallest; 1, so that every set holds every class, where there are too few
        rows for the level.

    Raises:
        ConfigError: If ``level`` is no share.
        DataError: If there is no row.

    Example:
        >>> import torch
        >>> level_quantile(torch.tensor([0.125, 0.25, 0.5]), 0.7), level_quantile(torch.tensor([0.125, 0.25]), 0.9)
        (0.5, 1.0)
    """
    if not 0 < level < 1:
        raise ConfigError(f"level: expected a share between 0 and 1, got {level}")
    if not len(unlikely):
        raise DataError("no row of a known class to find a quantile on")
    place = math.ceil((len(unlikely) + 1) * level - 1e-9)
    return float(unlikely[place - 1]) if place <= len(unlikely) else 1.0


def conformal_quantile(probabilities: Tensor, labels: Tensor, level: float = 0.9) -> float:
    """Find how unlikely the right class may be, on rows that no fit has seen.

    Args:
        probabilities: Float ``(rows, classes)`` in ``[0, 1]``; they need not sum to one.
        labels: Class index or ``NONE``, int64 ``(rows,)``; "none" rows are left out.
        level: Share of items whose set is to hold their class, in ``(0, 1)``.

    Returns:
        Greatest ``1 - p`` of a class in a set, in ``[0, 1]``: :func:`level_quantile` of :func:`nonconformity`.

    Raises:
        ConfigError: If ``level`` is no share.
        DataError: If shapes, types or ranges are wrong, or there is no row of a known class.

    Example:
        >>> import torch
        >>> probabilities = torch.tensor([[0.75, 0.25], [0.5, 0.5], [0.125, 0.875]])
        >>> conformal_quantile(probabilities, torch.tensor([0, 1, 1]), level=0.7)
        0.5
    """
    return level_quantile(nonconformity(probabilities, labels), level)


def prediction_set(probabilities: Tensor, quantile: float) -> Tensor:
    """Hold every class that is likely enough.

    Args:
        probabilities: Float ``(rows, classes)`` in ``[0, 1]``, made as those of :func:`conformal_quantile` were.
        quantile: What that function has found.

    Returns:
        Whether the set of a row holds a class, bool ``(rows, classes)``. A set can be empty: no class fits.

    Raises:
        DataError: If a probability lies outside ``[0, 1]``.

    Example:
        >>> import torch
        >>> prediction_set(torch.tensor([[0.75, 0.25], [0.5, 0.5], [0.125, 0.25]]), 0.5)
        tensor([[ True, False],
                [ True,  True],
                [False, False]])
    """
    check_probabilities(probabilities)
    return 1 - probabilities.double() <= quantile

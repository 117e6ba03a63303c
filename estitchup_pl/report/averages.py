"""Means and spreads over trials that pass over what a trial does not have."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def mean_over_trials(values: npt.ArrayLike) -> Any:
    """Mean over the first axis of all values that are finite; NaN where there is none.

    Example:
        >>> float(mean_over_trials([1.0, 3.0, np.nan]))
        2.0
    """
    array = np.asarray(values, np.float64)
    known = np.isfinite(array)
    count = known.sum(axis=0)
    return np.where(known, array, 0).sum(axis=0) / np.where(count > 0, count, np.nan)


def spread_over_trials(values: npt.ArrayLike) -> Any:
    """Sample standard deviation over the first axis of all values that are finite; NaN of fewer than two.

    Example:
        >>> round(float(spread_over_trials([1.0, 3.0, np.nan])), 4)
        1.4142
    """
    array = np.asarray(values, np.float64)
    known = np.isfinite(array)
    count = known.sum(axis=0)
    squares = np.where(known, array - mean_over_trials(array), 0) ** 2
    return np.sqrt(squares.sum(axis=0) / np.where(count > 1, count - 1, np.nan))

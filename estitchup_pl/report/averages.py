"""Means and spreads over trials that pass over what a trial does not have."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def mean_over_trials(values: npt.ArrayLike) -> Floats:
    """Mean over the first axis of all values that are finite; NaN where there is none.

    Example:
        >>> float(mean_over_trials([1.0, 3.0, np.nan]))
        2.0
    """
    return np.ma.filled(np.ma.masked_invalid(np.asarray(values, np.float64)).mean(axis=0), np.nan)


def spread_over_trials(values: npt.ArrayLike) -> Floats:
    """Sample standard deviation over the first axis of all values that are finite; NaN of fewer than two.

    Example:
        >>> round(float(spread_over_trials([1.0, 3.0, np.nan])), 4)
        1.4142
    """
    return np.ma.filled(np.ma.masked_invalid(np.asarray(values, np.float64)).std(axis=0, ddof=1), np.nan)

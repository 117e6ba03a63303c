"""How far a share can be trusted that rests on few rows."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from estitchup_pl.report.averages import Floats

Z: Final = 1.959964
"""Standard normal quantile of a two-sided interval of 95 %."""


def share_interval(share: npt.ArrayLike, rows: float) -> tuple[Floats, Floats]:
    """95 % interval of a share of so many rows (Wilson, 1927), which stays within 0 and 1 however few they are.

    Args:
        share: Shares in ``[0, 1]``, of any shape; NaN stays NaN.
        rows: Rows that each is of, at least 1.

    Example:
        >>> [round(float(end), 4) for end in share_interval(10 / 13, 13)]
        [0.4974, 0.9182]
    """
    share = np.asarray(share, dtype=np.float64)
    middle = (share + Z**2 / (2 * rows)) / (1 + Z**2 / rows)
    half = Z / (1 + Z**2 / rows) * np.sqrt(share * (1 - share) / rows + Z**2 / (4 * rows**2))
    return np.maximum(middle - half, 0), np.minimum(middle + half, 1)


def interval_of(share: float, rows: float) -> str:
    """Write such an interval.

    Example:
        >>> interval_of(10 / 13, 13), interval_of(math.nan, 13)
        (' [0.50, 0.92]', '')
    """
    low, high = share_interval(share, rows)
    return f" [{low:.2f}, {high:.2f}]" if math.isfinite(share) else ""

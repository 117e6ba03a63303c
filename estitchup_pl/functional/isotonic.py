"""Isotonic calibration of the top label: how often rows of such a confidence were right (Zadrozny & Elkan, 2002)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from estitchup_pl.functional.exporting import count_below
from estitchup_pl.functional.temperature import known_rows


class IsotonicMap(NamedTuple):
    """Accuracy as a rising function of the greatest logit, linear between knots; float64 but ``rows``.

    Attributes:
        knots: Greatest logits, rising, ``(knots,)``.
        accuracy: Share of right rows there, rising, in ``[0, 1]``, ``(knots,)``.
        rows: Number of rows that it was fitted on, int64 scalar.
    """

    knots: Tensor
    accuracy: Tensor
    rows: Tensor


def fit_isotonic(logits: Tensor, labels: Tensor) -> IsotonicMap:
    """Fit the rising function of the greatest logit that is nearest to whether its class is right.

    Args:
        logits: Float ``(rows, classes)`` on rows that no fit has seen.
        labels: Class index or ``NONE``, int64 ``(rows,)``; "none" rows are left out.

    Returns:
        The function, by scikit-learn's ``IsotonicRegression``.

    Raises:
        DataError: If there are no rows of known classes, shapes or types are wrong, or a label is no class.

    Example:
        >>> logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
        >>> fit_isotonic(logits, torch.tensor([0, 1, 0])).accuracy
        tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    from sklearn.isotonic import IsotonicRegression  # slow to import, and only those who fit one need it

    top, right = known_rows(logits, labels).top
    fitted = IsotonicRegression(y_min=0, y_max=1).fit(top.cpu().numpy(), right.double().cpu().numpy())
    knots, accuracy = (torch.from_numpy(values).to(top) for values in (fitted.X_thresholds_, fitted.y_thresholds_))
    return IsotonicMap(knots, accuracy, torch.tensor(len(top), device=top.device))


def apply_isotonic(logits: Tensor, fitted: IsotonicMap) -> Tensor:
    """Shift each row's logits so that its confidence is the accuracy that an isotonic function expects.

    A shift keeps the order of a row's classes. To keep the order of rows too, where the function is flat, and to be
    never quite sure, two more rows are counted at each logit, which agree with the confidence that there was: the
    new confidence is ``(n * accuracy + 2 * sigmoid(top)) / (n + 2)``.

    Args:
        logits: Float ``(rows, classes)``.
        fitted: From :func:`fit_isotonic`.

    Returns:
        Logits in the type and shape of those that came in.

    Example:
        >>> fitted = IsotonicMap(torch.tensor([0.0, 2.0]), torch.tensor([0.5, 1.0]), torch.tensor(98))
        >>> apply_isotonic(torch.tensor([[0.0, -1.0]]), fitted).sigmoid().round(decimals=4)
        tensor([[0.5000, 0.2689]])
    """
    top = logits.amax(dim=1, keepdim=True).double()
    accuracy = interpolate(top, fitted.knots.double(), fitted.accuracy.double())
    share = 2 / (fitted.rows.double() + 2)
    right = (1 - share) * accuracy + share * top.sigmoid()
    wrong = (1 - share) * (1 - accuracy) + share * (-top).sigmoid()
    least = torch.finfo(torch.float64).tiny
    shift = right.clamp(min=least).log() - wrong.clamp(min=least).log() - top
    return (logits + shift.where(top.isfinite(), 0)).to(logits.dtype)


def interpolate(at: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Interpolate linearly between knots, and go on flat beyond them.

    Args:
        at: Where, float, any shape.
        knots: Rising, ``(knots,)``, at least one.
        values: What is there, ``(knots,)``.

    Returns:
        Values in the shape of ``at``.

    Example:
        >>> interpolate(torch.tensor([-1.0, 0.5, 9.0]), torch.tensor([0.0, 1.0]), torch.tensor([3.0, 5.0]))
        tensor([3., 4., 5.])
    """
    at = at.clamp(knots[0], knots[-1])
    upper = count_below(knots, at).clamp(max=len(knots) - 1)
    lower = (upper - 1).clamp(min=0)
    gap = knots[upper] - knots[lower]
    share = (at - knots[lower]) / gap.where(gap > 0, 1)
    return values[lower] + share * (values[upper] - values[lower])

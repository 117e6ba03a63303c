"""Temperature scaling: one divisor of all logits, fitted after training (Guo et al., 2017)."""

from __future__ import annotations

from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from estitchup_pl.batch import NONE
from estitchup_pl.errors import DataError
from estitchup_pl.functional.checks import check_labels

LIMITS = (0.02, 50.0)
"""Temperatures that are considered."""


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Find the temperature whose probabilities have the least binary cross-entropy against the hard targets.

    The loss is convex in the inverse of the temperature, so a bounded search finds its minimum.

    Args:
        logits: Float ``(rows, classes)`` on rows that no fit has seen.
        labels: Class index of each row, int64 ``(rows,)``; "none" rows have no place here.

    Returns:
        Temperature in :data:`LIMITS`; above 1 where the logits are too sure of themselves.

    Raises:
        DataError: If there are no rows, shapes or types are wrong, or a label is no class.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[4.0, -4.0], [4.0, -4.0], [4.0, -4.0], [4.0, -4.0]])
        >>> round(fit_temperature(logits, torch.tensor([0, 0, 0, 1])), 2)  # 3 in 4 are right: 4 / T is log 3
        3.64
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise DataError(
            f"expected logits (rows, classes) and labels (rows,), got {(*logits.shape,)}, {(*labels.shape,)}"
        )
    if len(labels) == 0:
        raise DataError("no row of a known class to fit a temperature on: raise train_fraction or lower held_out")
    check_labels(labels, logits.shape[1])
    if bool((labels == NONE).any()):
        raise DataError(
            'labels: a temperature is fitted on rows of known classes, and some are "none": leave those out'
        )
    logits = logits.detach().double()
    targets = one_hot(labels, logits.shape[1]).double()

    def loss(inverse: float) -> float:
        return float(binary_cross_entropy_with_logits(logits * inverse, targets))

    bounds = (1 / LIMITS[1], 1 / LIMITS[0])
    return float(1 / minimize_scalar(loss, bounds=bounds, options={"xatol": 1e-9}).x)

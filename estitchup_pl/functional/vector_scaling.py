"""Affine calibration: one factor and one shift for all logits, or for each class (Platt, 1999; Guo et al., 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import one_hot, softplus

from estitchup_pl.errors import ConfigError
from estitchup_pl.functional.temperature import fit_temperature, known_rows

_LEAST_FACTOR: Final = 1e-3
_MOST: Final = 1e3
"""Bounds of factors and shifts: rows that are all right would take them to infinity."""


class Affine(NamedTuple):
    """The map ``scale * logit + shift``, float64, scalars or one number a class.

    Attributes:
        scale: Factor, above 0, so that a logit of ``-inf`` stays so.
        shift: What is added.
    """

    scale: Tensor
    shift: Tensor


def apply_affine(logits: Tensor, affine: Affine) -> Tensor:
    """Scale and shift logits.

    Args:
        logits: Float ``(rows, classes)``.
        affine: Scalars, or one number a class.

    Returns:
        Logits in the type and shape of those that came in.

    Example:
        >>> affine = Affine(torch.tensor([2.0, 1.0]), torch.tensor([0.0, 3.0]))
        >>> apply_affine(torch.tensor([[1.5, -torch.inf]]), affine)
        tensor([[3., -inf]])
    """
    return (logits * affine.scale + affine.shift).to(logits.dtype)


def fit_vector_scaling(logits: Tensor, labels: Tensor, shrinkage: float = 10.0) -> Affine:
    """Fit a factor and a shift for each class, drawn towards one temperature for all.

    They have the least sum over rows and classes of the binary cross-entropy against the hard targets, plus
    ``shrinkage / 2`` times the sum over classes of ``(T * scale - 1)^2 + shift^2``, where ``T`` is the temperature of
    :func:`fit_temperature`. A class with few rows so keeps close to the temperature. The sum is convex.

    Args:
        logits: Float ``(rows, classes)`` on rows that no fit has seen; ``-inf`` for a class that does not exist.
        labels: Class index or ``NONE``, int64 ``(rows,)``; "none" rows are left out.
        shrinkage: Weight of the pull, in rows, at least 0; infinite for the temperature itself.

    Returns:
        One factor and one shift a class, ``(classes,)``.

    Raises:
        ConfigError: If the shrinkage is negative.
        DataError: If there are no rows of known classes, shapes or types are wrong, or a label is no class.

    Example:
        >>> logits = torch.tensor([[4.0, -4.0], [4.0, -4.0], [4.0, -4.0], [4.0, -4.0]])
        >>> fit_vector_scaling(logits, torch.tensor([0, 0, 0, 1]), shrinkage=torch.inf).shift
        tensor([0., 0.], dtype=torch.float64)
    """
    check_pull(shrinkage)
    rows = known_rows(logits, labels)
    inverse, classes = 1 / fit_temperature(logits, labels), logits.shape[1]
    exists = rows.logits > -math.inf
    scaled = rows.logits.where(exists, 0) * inverse
    targets = one_hot(rows.labels, classes).to(scaled)

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        factor, shift = torch.from_numpy(values).to(scaled).view(2, classes)
        mapped = scaled * factor + shift
        residual = (mapped.sigmoid() - targets).where(exists, 0)
        total = (softplus(mapped) - targets * mapped).where(exists, 0).sum()
        total = total + shrinkage / 2 * ((factor - 1).square() + shift.square()).sum()
        slopes = (residual * scaled).sum(dim=0) + shrinkage * (factor - 1), residual.sum(dim=0) + shrinkage * shift
        return float(total), torch.cat(slopes).cpu().numpy()

    start = np.repeat([1.0, 0.0], classes)
    found = start if math.isinf(shrinkage) else _least(loss, start, classes)
    factor, shift = torch.from_numpy(found).to(logits.device).view(2, classes)
    return Affine(factor * inverse, shift)


def fit_platt(top: Tensor, correct: Tensor) -> Affine:
    """Fit the factor and the shift whose confidence has the least binary cross-entropy against correctness.

    Args:
        top: Greatest logit of each row, or any score of confidence, float ``(rows,)``, finite.
        correct: Whether that class is right, bool ``(rows,)``.

    Returns:
        Two scalars; the factor is positive, so that the order of rows is kept.

    Example:
        >>> affine = fit_platt(torch.tensor([0.0, 0.0, 0.0, 1.0]), torch.tensor([True, False, False, True]))
        >>> torch.sigmoid(affine.shift).round(decimals=3)  # of the rows at 0, one in three is right
        tensor(0.3330, dtype=torch.float64)
    """
    top, targets = top.detach().double(), correct.double()

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        mapped = top * values[0] + values[1]
        residual = mapped.sigmoid() - targets
        slopes = (residual * top).mean(), residual.mean()
        return float((softplus(mapped) - targets * mapped).mean()), np.array([float(slope) for slope in slopes])

    found = torch.from_numpy(_least(loss, np.array([1.0, 0.0]), 1)).to(top.device)
    return Affine(found[0], found[1])


def check_pull(shrinkage: float) -> None:
    """Refuse a negative weight of the pull towards one temperature.

    Raises:
        ConfigError: If it is negative or not a number.
    """
    if not shrinkage >= 0:
        raise ConfigError(f"shrinkage: expected at least 0 (in rows; inf for one temperature), got {shrinkage}")


def _least(
    loss: Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]], start: NDArray[np.float64], factors: int
) -> NDArray[np.float64]:
    """Minimise a convex loss of factors and as many shifts, which gives its slopes too."""
    bounds = [(_LEAST_FACTOR, _MOST)] * factors + [(-_MOST, _MOST)] * factors
    options = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-15, "gtol": 1e-9}
    found: NDArray[np.float64] = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    return found

"""Temperature scaling: one divisor of all logits, fitted after training (Guo et al., 2017)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from estitchup_pl.batch import NONE
from estitchup_pl.errors import DataError
from estitchup_pl.functional.checks import check_labels

LIMITS = (0.02, 50.0)
"""Temperatures that are considered."""


class KnownRows(NamedTuple):
    """The rows of known classes that a calibrator is fitted on.

    Attributes:
        logits: Float64 ``(rows, classes)``; ``-inf`` for a class that a row's fit did not know.
        labels: Class index, int64 ``(rows,)``, never ``NONE`` nor a class of logit ``-inf``.
    """

    logits: Tensor
    labels: Tensor

    @property
    def top(self) -> tuple[Tensor, Tensor]:
        """Greatest logit, float64 ``(rows,)``, and whether its class is right, bool ``(rows,)``."""
        top, predicted = self.logits.max(dim=1)
        return top, predicted == self.labels


def known_rows(logits: Tensor, labels: Tensor) -> KnownRows:
    """Take the rows whose class the fit knew: neither "none" nor held out, which is a logit of ``-inf``.

    Args:
        logits: Float ``(rows, classes)`` on rows that no fit has seen.
        labels: Class index or ``NONE``, int64 ``(rows,)``.

    Raises:
        DataError: If there are none, or shapes, types or a label are wrong.

    Example:
        >>> logits = torch.tensor([[2.0, -torch.inf], [1.0, -torch.inf], [0.0, 3.0]])
        >>> known_rows(logits, torch.tensor([0, 1, NONE])).labels
        tensor([0])
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise DataError(
            f"expected logits (rows, classes) and labels (rows,), got {(*logits.shape,)}, {(*labels.shape,)}"
        )
    check_labels(labels, logits.shape[1])
    own = logits.gather(1, labels.clamp(min=0).unsqueeze(1)).squeeze(1) if logits.shape[1] else logits.new_empty(0)
    known = (labels != NONE) & (own > -torch.inf)
    if not bool(known.any()):
        raise DataError(
            f"no row of a known class among {len(labels)} validation rows to calibrate on: "
            "raise train_fraction or lower held_out"
        )
    return KnownRows(logits.detach()[known].double(), labels[known])


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Find the temperature whose probabilities have the least binary cross-entropy against the hard targets.

    The loss is convex in the inverse of the temperature, so a bounded search finds its minimum. "none" rows are left
    out, and a class of logit ``-inf`` adds nothing to the loss.

    Args:
        logits: Float ``(rows, classes)`` on rows that no fit has seen.
        labels: Class index or ``NONE``, int64 ``(rows,)``.

    Returns:
        Temperature in :data:`LIMITS`; above 1 where the logits are too sure of themselves.

    Raises:
        DataError: If there are no rows of known classes, shapes or types are wrong, or a label is no class.

    Example:
        >>> logits = torch.tensor([[4.0, -4.0], [4.0, -4.0], [4.0, -4.0], [4.0, -4.0]])
        >>> round(fit_temperature(logits, torch.tensor([0, 0, 0, 1])), 2)  # 3 in 4 are right: 4 / T is log 3
        3.64
    """
    rows = known_rows(logits, labels)
    exists = rows.logits > -torch.inf
    return _best_temperature(rows.logits[exists], one_hot(rows.labels, logits.shape[1])[exists])


def fit_top_temperature(logits: Tensor, labels: Tensor) -> float:
    """Find the temperature whose confidence has the least binary cross-entropy against whether the top class is right.

    It looks at nothing but the confidence that a decision rests on, and so calibrates that better than
    :func:`fit_temperature`, whose loss is mostly the many classes that are rightly improbable.

    Args:
        logits: Float ``(rows, classes)`` on rows that no fit has seen.
        labels: Class index or ``NONE``, int64 ``(rows,)``; "none" rows are left out.

    Returns:
        Temperature in :data:`LIMITS`.

    Raises:
        DataError: If there are no rows of known classes, shapes or types are wrong, or a label is no class.

    Example:
        >>> logits = torch.tensor([[4.0, -9.0], [4.0, 0.0], [4.0, 3.0], [4.0, -7.0]])
        >>> round(fit_top_temperature(logits, torch.tensor([0, 0, 0, 1])), 2)  # 3 in 4 are right: 4 / T is log 3
        3.64
    """
    return _best_temperature(*known_rows(logits, labels).top)


def _best_temperature(logits: Tensor, targets: Tensor) -> float:
    targets = targets.double()

    def loss(inverse: float) -> float:
        return float(binary_cross_entropy_with_logits(logits * inverse, targets))

    bounds = (1 / LIMITS[1], 1 / LIMITS[0])
    return float(1 / minimize_scalar(loss, bounds=bounds, options={"xatol": 1e-9}).x)

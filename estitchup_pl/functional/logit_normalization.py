"""Logit normalisation: what label smoothing takes from the ranking by confidence, given back (arXiv 2403.14715).

Smoothing holds a network's greatest logits back most where it is right. Dividing each row's centred logits by their
p-norm undoes that (Cattelan & Silva, arXiv 2305.15508); the norm is the one whose confidence ranks errors last.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from estitchup_pl.functional.risk import risk_areas
from estitchup_pl.functional.scores import squash
from estitchup_pl.functional.temperature import known_rows
from estitchup_pl.functional.vector_scaling import Affine, apply_affine, fit_platt

NORMS: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
"""Norms that are considered; 0 stands for the logits as they are."""


class LogitNorm(NamedTuple):
    """A normalisation and what makes probabilities of its result.

    Attributes:
        norm: One of :data:`NORMS`, int64 scalar.
        affine: From :func:`fit_platt`.
    """

    norm: Tensor
    affine: Affine


def normalize_logits(logits: Tensor, norm: int) -> Tensor:
    """Subtract the mean of each row's logits, and divide them by their p-norm.

    Args:
        logits: Float ``(rows, classes)``; ``-inf``, a class that does not exist, has no say and stays so.
        norm: The p of the norm, at least 1, or 0 for the logits as they are.

    Returns:
        Float64 ``(rows, classes)``, in ``[-1, 1]`` but for norm 0; 0 where all logits of a row are equal.

    Example:
        >>> normalize_logits(torch.tensor([[5.0, 1.0, 3.0, -torch.inf]]), norm=1)
        tensor([[ 0.5000, -0.5000,  0.0000,    -inf]], dtype=torch.float64)
    """
    values = logits.double()
    if norm == 0:
        return values
    exists = values > -torch.inf
    present = values.where(exists, 0)
    centered = (present - present.sum(dim=1, keepdim=True) / exists.sum(dim=1, keepdim=True).clamp(min=1)) * exists
    greatest = centered.abs().amax(dim=1, keepdim=True)
    tied = greatest <= 1e-12 * present.abs().amax(dim=1, keepdim=True)  # what rounding has left of a mean
    centered = (centered / greatest.where(~tied, 1)).where(~tied, 0)
    length: Tensor = centered.norm(p=norm, dim=1, keepdim=True)
    return (centered / length.where(~tied, 1)).where(exists, -torch.inf)


def fit_logit_norm(logits: Tensor, labels: Tensor) -> LogitNorm:
    """Choose the norm of least area under risk over coverage, and fit a factor and a shift to its confidence.

    Args:
        logits: Float ``(rows, classes)`` on rows that no fit has seen.
        labels: Class index or ``NONE``, int64 ``(rows,)``; "none" rows are left out.

    Returns:
        Norm, the least of equally good ones, and the map to logits of probabilities.

    Raises:
        DataError: If there are no rows of known classes, shapes or types are wrong, or a label is no class.

    Example:
        >>> logits = torch.tensor([[1.0, 0.0, 0.0], [5.0, 4.0, 0.0], [1.0, 0.0, 0.0]])
        >>> int(fit_logit_norm(logits, torch.tensor([0, 1, 0])).norm)  # the row that is wrong has the greatest logit
        1
    """
    rows = known_rows(logits, labels)
    _, right = rows.top
    confidences = torch.stack([normalize_logits(rows.logits, norm).amax(dim=1) for norm in NORMS])
    ranked = confidences.round(decimals=12)  # rounding errors part no ties: of two classes all norms are equal
    areas = torch.stack([risk_areas(squash(confidence), right).aurc for confidence in ranked])
    best = int(areas.round(decimals=12).argmin())
    return LogitNorm(torch.tensor(NORMS[best], device=logits.device), fit_platt(confidences[best], right))


def apply_logit_norm(logits: Tensor, fitted: LogitNorm) -> Tensor:
    """Normalise logits and map them to logits of probabilities; the order of a row's classes stays.

    Args:
        logits: Float ``(rows, classes)``.
        fitted: From :func:`fit_logit_norm`.

    Returns:
        Logits in the type and shape of those that came in.

    Example:
        >>> fitted = LogitNorm(torch.tensor(1), Affine(torch.tensor(8.0), torch.tensor(-1.0)))
        >>> apply_logit_norm(torch.tensor([[3.0, 1.0]]), fitted)
        tensor([[ 3., -5.]])
    """
    return apply_affine(normalize_logits(logits, int(fitted.norm)), fitted.affine).to(logits.dtype)

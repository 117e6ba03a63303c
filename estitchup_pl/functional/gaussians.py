"""Mahalanobis distances to classes, with a covariance that is right where there are fewer rows than columns."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from estitchup_pl.errors import ConfigError
from estitchup_pl.functional.exporting import row_blocks

_LEAST_SHRINKAGE: Final = 1e-6
_ROWS_AT_ONCE: Final = 4096


class Gaussians(NamedTuple):
    """Normal distributions that share one covariance, float64.

    Attributes:
        centers: Their means times ``whitening.T``, ``(classes, dim)``.
        whitening: Inverse of the Cholesky factor of the covariance, ``(dim, dim)``, lower triangular.
    """

    centers: Tensor
    whitening: Tensor


def shrunk_covariance(centered: Tensor, shrinkage: float | None = None) -> Tensor:
    """Covariance of rows whose mean has been subtracted, shrunk towards equal variances.

    Args:
        centered: Float ``(rows, dim)``.
        shrinkage: Share of the mean variance times the identity in the result, in ``(0, 1]``; ``None`` for the share of
            least expected squared error by Ledoit & Wolf (2004).

    Returns:
        Positive definite, float64 ``(dim, dim)``: the identity where the rows do not vary.

    Raises:
        ConfigError: If the shrinkage is outside ``(0, 1]``.

    Example:
        >>> shrunk_covariance(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), shrinkage=0.5)
        tensor([[0.7500, 0.0000],
                [0.0000, 0.2500]], dtype=torch.float64)
    """
    check_shrinkage(shrinkage)
    rows = centered.double()
    covariance = rows.mT @ rows / len(rows)
    identity, variance = torch.eye(rows.shape[1]).to(covariance), float(covariance.trace()) / rows.shape[1]
    if variance == 0:
        return identity
    share = _ledoit_wolf_shrinkage(rows, covariance) if shrinkage is None else shrinkage
    return (1 - share) * covariance + share * variance * identity


def check_shrinkage(shrinkage: float | None) -> None:
    """Refuse a share outside ``(0, 1]``.

    Raises:
        ConfigError: If it is not ``None`` and outside.
    """
    if shrinkage is not None and not 0 < shrinkage <= 1:
        raise ConfigError(f"shrinkage: expected more than 0 and at most 1, or null to estimate it, got {shrinkage}")


def fit_gaussians(embeddings: Tensor, labels: Tensor, shrinkage: float | None = None) -> Gaussians:
    """Fit one normal distribution a class, with the covariance that all classes share.

    Args:
        embeddings: Float ``(rows, dim)``.
        labels: Class index of each row, int64 ``(rows,)``; equal ones for one distribution of all rows.
        shrinkage: As for :func:`shrunk_covariance`.

    Returns:
        Distributions of the classes that have rows, in the order of their index.

    Raises:
        ConfigError: If the shrinkage is outside ``(0, 1]``.

    Example:
        >>> rows = torch.tensor([[0.0, 0.0], [2.0, 0.0], [5.0, 7.0], [5.0, 9.0]])
        >>> gaussians = fit_gaussians(rows, torch.tensor([0, 0, 1, 1]), shrinkage=1.0)
        >>> mahalanobis_distance(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), gaussians).round(decimals=6)
        tensor([0., 1.], dtype=torch.float64)
    """
    _, group, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    rows = embeddings.double()
    means = rows.new_zeros(len(counts), rows.shape[1]).index_add_(0, group, rows) / counts.unsqueeze(1)
    factor = torch.linalg.cholesky(shrunk_covariance(rows - means[group], shrinkage))
    identity = torch.eye(len(factor)).to(factor)
    whitening = torch.linalg.solve_triangular(factor, identity, upper=False)
    return Gaussians(means @ whitening.mT, whitening)


def mahalanobis_distance(embeddings: Tensor, gaussians: Gaussians) -> Tensor:
    """Squared Mahalanobis distance to the nearest class, divided by the number of columns (Lee et al., 2018).

    Args:
        embeddings: Float ``(rows, dim)``.
        gaussians: From :func:`fit_gaussians`.

    Returns:
        Distance, at least 0 and about 1 for rows of a class, float64 ``(rows,)``.

    Example:
        >>> gaussians = Gaussians(torch.tensor([[0.0, 0.0], [4.0, 0.0]]), torch.eye(2))
        >>> mahalanobis_distance(torch.tensor([[3.0, 1.0]]), gaussians)
        tensor([1.], dtype=torch.float64)
    """
    centers, whitening = (part.double() for part in gaussians)
    nearest = []
    for rows in row_blocks(embeddings, _ROWS_AT_ONCE):
        white = rows.double() @ whitening.mT
        squares = white.square().sum(dim=1, keepdim=True) + centers.square().sum(dim=1)
        nearest.append((squares - 2 * white @ centers.mT).amin(dim=1))
    return torch.cat(nearest).clamp(min=0) / embeddings.shape[1]


def relative_mahalanobis_distance(embeddings: Tensor, classes: Gaussians, everything: Gaussians) -> Tensor:
    """Distance to the nearest class less the distance to all rows taken as one class (Ren et al., 2021).

    Args:
        embeddings: Float ``(rows, dim)``.
        classes: :func:`fit_gaussians` of the classes.
        everything: :func:`fit_gaussians` of the same rows with one label for all.

    Returns:
        Difference of :func:`mahalanobis_distance`, float64 ``(rows,)``.

    Example:
        >>> classes = Gaussians(torch.tensor([[-1.0], [1.0]]), torch.eye(1))
        >>> everything = Gaussians(torch.tensor([[0.0]]), torch.eye(1) / 2)
        >>> relative_mahalanobis_distance(torch.tensor([[1.0], [3.0]]), classes, everything)
        tensor([-0.2500,  1.7500], dtype=torch.float64)
    """
    return mahalanobis_distance(embeddings, classes) - mahalanobis_distance(embeddings, everything)


def _ledoit_wolf_shrinkage(rows: Tensor, covariance: Tensor) -> float:
    """Share of the identity that has the least expected squared error, of float64 rows with mean zero."""
    square = float(covariance.square().sum())
    distance = square - float(covariance.trace()) ** 2 / len(covariance)
    error = (float(rows.square().sum(dim=1).square().mean()) - square) / len(rows)
    return min(max(error / distance, _LEAST_SHRINKAGE), 1.0) if distance > 0 else 1.0

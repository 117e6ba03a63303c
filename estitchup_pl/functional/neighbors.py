"""Nearest rows by cosine, exactly and in bounded memory, and the distances that follow from them."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.functional.exporting import falling, row_blocks, without_autocast

_QUERY_ROWS: Final = 1024
_BANK_ROWS: Final = 8192
"""Rows on either side of one matrix product: 32 MiB of cosines at a time."""


class Neighbors(NamedTuple):
    """The nearest rows of a bank, nearest first, each field ``(rows, k)``.

    Attributes:
        cosines: Cosine similarity in ``[-1, 1]``, in the type of the comparison.
        rows: Row of the bank, int64; of equally near rows the first.
    """

    cosines: Tensor
    rows: Tensor


def unit_length(rows: Tensor) -> Tensor:
    """Scale each row to length one, without overflow; a row of zeros stays zero and has cosine 0 with every other.

    Args:
        rows: Float ``(rows, dim)``; float16 and bfloat16 are computed and returned as float32.

    Example:
        >>> unit_length(torch.tensor([[3.0, 4.0], [0.0, 0.0], [3e30, -4e30]]))
        tensor([[ 0.6000,  0.8000],
                [ 0.0000,  0.0000],
                [ 0.6000, -0.8000]])
    """
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    greatest = rows.abs().amax(dim=-1, keepdim=True)  # a third of the time of a norm of infinite order
    return normalize(rows / greatest.clamp(min=torch.finfo(rows.dtype).tiny), dim=-1)


def k_nearest(queries: Tensor, bank: Tensor, k: int) -> Neighbors:
    """Find the ``k`` rows of a bank that are nearest to each query by cosine.

    Args:
        queries: Float ``(rows, dim)``, of any length but zero.
        bank: Float ``(bank, dim)`` of :func:`unit_length`, kept in any type, compared in that of the queries, at least
            float32.
        k: Neighbours of each query; all rows of the bank where it has fewer.

    Returns:
        Cosines and rows of the bank, ``(rows, min(k, bank))``.

    Raises:
        ConfigError: If ``k`` is less than one.
        DataError: If the bank is empty, or of another width than the queries.

    Example:
        >>> bank = unit_length(torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 0.0]]))
        >>> k_nearest(torch.tensor([[4.0, 3.0]]), bank, k=2)
        Neighbors(cosines=tensor([[0.8000, 0.8000]]), rows=tensor([[0, 2]]))
    """
    if k < 1:
        raise ConfigError(f"k: expected at least one neighbour, got {k}")
    if len(bank) == 0 or queries.ndim != 2 or queries.shape[1:] != bank.shape[1:]:
        raise DataError(
            "expected queries (rows, dim) and a bank of at least one row (bank, dim), "
            f"got {(*queries.shape,)} and {(*bank.shape,)}"
        )
    with without_autocast(queries.device):  # whose bfloat16 has three digits of a cosine
        found = [_nearest_in_blocks(unit_length(block), bank, k) for block in row_blocks(queries, _QUERY_ROWS)]
    return Neighbors(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def neighbor_distance(embeddings: Tensor, bank: Tensor, k: int) -> Tensor:
    """Mean cosine distance to the ``k`` nearest rows of a bank, halved.

    Args:
        embeddings: Float ``(rows, dim)``.
        bank: As for :func:`k_nearest`.
        k: Neighbours of each row; all of the bank where it has fewer.

    Returns:
        Distance in ``[0, 1]``, float64 ``(rows,)``; a row of zeros is half-way, at 0.5.

    Raises:
        ConfigError: If ``k`` is less than one.
        DataError: If the bank is empty or of another width.

    Example:
        >>> bank = unit_length(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]]))
        >>> neighbor_distance(torch.tensor([[3.0, 0.0], [-2.0, 0.0]]), bank, k=2)
        tensor([0.2500, 0.2500], dtype=torch.float64)
    """
    return cosine_distance(k_nearest(embeddings, bank, k).cosines.double().mean(dim=1))


def class_means(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Mean direction of each class: the mean of its rows at length one, at length one again.

    Args:
        embeddings: Float ``(rows, dim)``.
        labels: Class index of each row, int64 ``(rows,)``.

    Returns:
        Means ``(classes, dim)`` of the classes that have rows, in the order of their index.

    Example:
        >>> class_means(torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 5.0]]), torch.tensor([0, 3, 3]))
        tensor([[1., 0.],
                [0., 1.]])
    """
    _, group = torch.unique(labels, return_inverse=True)
    rows = unit_length(embeddings)
    sums = rows.new_zeros(int(group.max()) + 1, rows.shape[1]).index_add_(0, group, rows)
    return unit_length(sums)


def nearest_mean_distance(embeddings: Tensor, means: Tensor) -> Tensor:
    """Cosine distance to the nearest class mean, halved.

    Args:
        embeddings: Float ``(rows, dim)``.
        means: Float ``(classes, dim)`` of :func:`class_means`.

    Returns:
        Distance in ``[0, 1]``, float64 ``(rows,)``; a row of zeros is half-way, at 0.5.

    Raises:
        DataError: If there is no mean, or the widths differ.

    Example:
        >>> nearest_mean_distance(torch.tensor([[4.0, 3.0]]), torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
        tensor([0.1000], dtype=torch.float64)
    """
    return neighbor_distance(embeddings, means, k=1)


def cosine_distance(cosines: Tensor) -> Tensor:
    """Half the distance ``1 - cosine``, in ``[0, 1]`` whatever rounding has made of the cosine."""
    return ((1 - cosines) / 2).clamp(0, 1)


def balanced_subsample(labels: Tensor, size: int, *, generator: torch.Generator) -> Tensor:
    """Draw rows so that no class has more than one row above another that still has rows left out.

    Args:
        labels: Class index of each row, int64 ``(rows,)``.
        size: Rows wanted.
        generator: Source of the draw, on the CPU.

    Returns:
        Rows in rising order, int64 ``(min(size, rows),)``, on the device of the labels.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 0, 0, 1])
        >>> kept = balanced_subsample(labels, 3, generator=torch.Generator().manual_seed(0))
        >>> labels[kept]
        tensor([0, 0, 1])
    """
    shuffled = torch.randperm(len(labels), generator=generator).to(labels.device)
    by_class, order = labels[shuffled].sort(stable=True)
    place = torch.arange(len(labels), device=labels.device) - torch.searchsorted(by_class, by_class)
    first = place.argsort(stable=True)[:size]
    return shuffled[order[first]].sort().values


def _nearest_in_blocks(queries: Tensor, bank: Tensor, k: int) -> Neighbors:
    best = Neighbors(queries[:, :0], queries[:, :0].long())
    for start in range(0, len(bank), _BANK_ROWS):
        cosines, index = _greatest(queries @ bank[start : start + _BANK_ROWS].to(queries.dtype).mT, k)
        cosines, index = torch.cat([best.cosines, cosines], dim=1), torch.cat([best.rows, index + start], dim=1)
        best = _take(cosines, index, falling(cosines)[:, :k])
    return best


def _greatest(values: Tensor, k: int) -> Neighbors:
    """Take the greatest values of each row, of equal ones the first; ``topk`` alone takes any of them."""
    seen, index = values.topk(min(k + 1, values.shape[1]), dim=1)
    if torch.compiler.is_exporting():
        return Neighbors(seen[:, :k], index[:, :k])  # ties as the runtime breaks them; the cosines are the same
    if seen.shape[1] <= k:
        return Neighbors(*values.sort(dim=1, descending=True, stable=True))
    cut = seen[:, k - 1] == seen[:, k]  # ties between the last one taken and the first one left
    kept = index[:, :k]
    if bool(cut.any()):
        kept = kept.index_put((cut,), values[cut].argsort(dim=1, descending=True, stable=True)[:, :k])
    kept = kept.sort(dim=1).values
    cosines = values.gather(1, kept)
    return _take(cosines, kept, cosines.argsort(dim=1, descending=True, stable=True))


def _take(cosines: Tensor, index: Tensor, order: Tensor) -> Neighbors:
    return Neighbors(cosines.gather(1, order), index.gather(1, order))

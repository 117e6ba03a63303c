"""What makes an item worth a label: uncertainty, novelty and typicality of predictions and embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from estitchup_pl.errors import ConfigError
from estitchup_pl.functional.checks import check_probabilities

ROWS_AT_ONCE: Final = 2048
"""Rows whose similarities to all others are held at once."""


def margin_uncertainty(probabilities: Tensor) -> Tensor:
    """One minus the lead of the most likely class over the second (Scheffer et al., 2001).

    Args:
        probabilities: Float ``(rows, classes)`` in ``[0, 1]``.

    Returns:
        Uncertainty in ``[0, 1]``, ``(rows,)``; with a single class one minus its probability.

    Raises:
        DataError: If the values are no probabilities.

    Example:
        >>> margin_uncertainty(torch.tensor([[0.75, 0.5], [1.0, 0.0]]))
        tensor([0.7500, 0.0000])
    """
    check_probabilities(probabilities)
    top = probabilities.topk(min(2, probabilities.shape[1]), dim=1).values
    return 1 - (top[:, 0] - top[:, 1] if top.shape[1] > 1 else top[:, 0])


def typicality(embeddings: Tensor, k: int = 20) -> Tensor:
    """One over the mean distance to the nearest neighbours: high where items lie dense (Hacohen et al., 2022).

    Args:
        embeddings: Float ``(rows, dim)``; their directions are compared.
        k: Neighbours, at least 1; all others where there are fewer.

    Returns:
        Typicality ``(rows,)`` above 0; the distance of equal directions counts as 1e-3.

    Raises:
        ConfigError: If ``k`` is below 1.

    Example:
        >>> typicality(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), k=1).argmin()
        tensor(2)
    """
    if k < 1:
        raise ConfigError(f"k: expected at least one neighbour, got {k}")
    unit = normalize(embeddings.float(), dim=1)
    if len(unit) < 2:
        return unit.new_ones(len(unit))
    nearest = []
    for start in range(0, len(unit), ROWS_AT_ONCE):
        distances = _distances(unit[start : start + ROWS_AT_ONCE], unit)
        rows = torch.arange(len(distances))
        distances[rows, rows + start] = torch.inf
        nearest.append(distances.topk(min(k, len(unit) - 1), dim=1, largest=False).values.mean(dim=1))
    return 1 / torch.cat(nearest).clamp(min=1e-3)


def farthest_first(embeddings: Tensor, covered: Tensor, count: int) -> Tensor:
    """Pick items one by one, each the farthest from all covered and picked before: a core set (Sener & Savarese, 2018).

    Args:
        embeddings: Float ``(rows, dim)``; their directions are compared.
        covered: Embeddings that are covered already ``(other rows, dim)``; there may be none.
        count: How many to pick; all where there are fewer.

    Returns:
        Positions in ``embeddings`` in the order of their choice, int64 ``(count,)``; of equals the first.

    Example:
        >>> points = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> farthest_first(points, points[:1], 2)
        tensor([2, 1])
    """
    unit, covered = normalize(embeddings.float(), dim=1), normalize(covered.float(), dim=1)
    distance = unit.new_full((len(unit),), torch.inf)
    for start in range(0, len(covered), ROWS_AT_ONCE):
        distance = torch.minimum(distance, _distances(unit, covered[start : start + ROWS_AT_ONCE]).amin(dim=1))
    picked = []
    for _ in range(min(count, len(unit))):
        picked.append(int(distance.argmax()))
        distance = torch.minimum(distance, _distances(unit, unit[picked[-1:]]).squeeze(1))
        distance[picked[-1]] = -1  # a distance is at least 0: never again
    return torch.tensor(picked, dtype=torch.int64)


def without_near_copies(embeddings: Tensor, order: Tensor, similarity: float) -> Iterator[int]:
    """Go through items in an order and pass over those that are nearly equal to one before.

    Args:
        embeddings: Float ``(rows, dim)``; their directions are compared.
        order: Positions in ``embeddings``, int64.
        similarity: Cosine similarity in ``(0, 1]`` from which two items count as copies; at 1 all are kept.

    Returns:
        Iterator of the positions that are left, in their order.

    Raises:
        ConfigError: If ``similarity`` lies outside ``(0, 1]``.

    Example:
        >>> points = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
        >>> list(without_near_copies(points, torch.tensor([1, 0, 2]), similarity=0.99))
        [1, 2]
    """
    if not 0 < similarity <= 1:
        raise ConfigError(f"similarity: expected more than 0 and at most 1, got {similarity}")
    unit, kept = normalize(embeddings.float(), dim=1), embeddings.new_empty(0, embeddings.shape[1]).float()
    for position in order.tolist():
        if similarity < 1:
            if len(kept) and float((kept @ unit[position]).amax()) >= similarity:
                continue
            kept = torch.cat([kept, unit[position : position + 1]])
        yield position


def _distances(unit: Tensor, others: Tensor) -> Tensor:
    """Euclidean distances ``(rows, other rows)`` of vectors of length one."""
    return (2 - 2 * (unit @ others.T)).clamp(min=0).sqrt()

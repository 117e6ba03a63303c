"""In which order unlabelled items are worth a label: one small class a strategy, named in the call by its name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor
from torch.nn.functional import normalize
from typing_extensions import override

from estitchup_pl.batch import NONE
from estitchup_pl.errors import ConfigError
from estitchup_pl.functional.acquisition import (
    farthest_first,
    margin_uncertainty,
    typicality,
)
from estitchup_pl.functional.scores import disagreement, entropy_score
from estitchup_pl.labeling.pool import Pool


class QueryStrategy(ABC):
    """Orders a pool; subclass it and implement :meth:`order`.

    Example:
        >>> class SmallestFirst(QueryStrategy):
        ...     def order(self, pool, count, generator):
        ...         return pool.embeddings.norm(dim=1).argsort()
    """

    @abstractmethod
    def order(self, pool: Pool, count: int, generator: torch.Generator) -> Tensor:
        """Order the items of a pool.

        Args:
            pool: The items, at least one.
            count: How many are wanted; a strategy that picks one by one may stop there.
            generator: Source of whatever is drawn.

        Returns:
            Positions in the pool, the most worthwhile first, int64; each at most once.
        """


class RandomOrder(QueryStrategy):
    """Items in random order: what every other strategy has to beat."""

    @override
    def order(self, pool: Pool, count: int, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(pool), generator=generator)


class NoneFirst(QueryStrategy):
    """What is decided "none" first, the farthest from all known classes leading; then the least sure (Sec. 6)."""

    @override
    def order(self, pool: Pool, count: int, generator: torch.Generator) -> Tensor:
        is_none = pool.predicted == NONE
        # Both lie in [0, 1]; what is decided "none" stands a whole unit above the rest.
        worth = torch.where(is_none, 1 + pool.none_scores.double(), margin_uncertainty(pool.probabilities).double())
        return worth.argsort(descending=True, stable=True)


class Margin(QueryStrategy):
    """The smallest lead of the most likely class over the second first."""

    @override
    def order(self, pool: Pool, count: int, generator: torch.Generator) -> Tensor:
        return margin_uncertainty(pool.probabilities).argsort(descending=True, stable=True)


class Entropy(QueryStrategy):
    """The greatest entropy over the classes first."""

    @override
    def order(self, pool: Pool, count: int, generator: torch.Generator) -> Tensor:
        return entropy_score(pool.probabilities.double().logit(eps=1e-12)).argsort(descending=True, stable=True)


class NoneScoreOrder(QueryStrategy):
    """The highest none score first."""

    @override
    def order(self, pool: Pool, count: int, generator: torch.Generator) -> Tensor:
        return pool.none_scores.argsort(descending=True, stable=True)


class Disagreement(QueryStrategy):
    """Where the members of an ensemble differ most.

    Raises:
        ConfigError: If the checkpoint is no ensemble.
    """

    @override
    def order(self, pool: Pool, count: int, generator: torch.Generator) -> Tensor:
        if pool.members is None:
            raise ConfigError("the strategy disagreement needs a checkpoint that is an ensemble; choose another one")
        return disagreement(pool.members).argsort(descending=True, stable=True)


class CoreSet(QueryStrategy):
    """Each item the farthest from all that are labelled or picked before."""

    @override
    def order(self, pool: Pool, count: int, generator: torch.Generator) -> Tensor:
        return farthest_first(pool.embeddings, pool.labelled, count)


@dataclass
class Typical(QueryStrategy):
    """The most typical item of each of as many clusters as are wanted: for a cold start (Hacohen et al., 2022).

    Attributes:
        k: Neighbours that typicality looks at, at least 1.
        largest: Clusters at most; beyond it clusters give several items each.
    """

    k: int = 20
    largest: int = 500

    @override
    def order(self, pool: Pool, count: int, generator: torch.Generator) -> Tensor:
        seed = int(torch.randint(2**31, (), generator=generator))
        unit = normalize(pool.embeddings.float(), dim=1)
        groups = min(count, self.largest, len(pool))
        clusters = MiniBatchKMeans(groups, random_state=seed, n_init=3).fit(unit.numpy()).labels_
        return first_of_each(torch.from_numpy(clusters).long(), typicality(unit, self.k))


def first_of_each(groups: Tensor, worth: Tensor) -> Tensor:
    """Positions group by group in turns: the best of each group, larger groups first, then the second best.

    Args:
        groups: Group of each item, int64 ``(items,)`` from 0.
        worth: What the items of a group are ordered by, greatest first, ``(items,)``.

    Example:
        >>> first_of_each(torch.tensor([0, 0, 1]), torch.tensor([0.1, 0.9, 0.5]))
        tensor([1, 2, 0])
    """
    order = worth.argsort(descending=True, stable=True)
    turn = torch.empty_like(order)
    sizes = torch.bincount(groups)
    for group in range(len(sizes)):
        members = order[groups[order] == group]
        turn[members] = torch.arange(len(members))
    by_size = order[sizes[groups[order]].argsort(descending=True, stable=True)]
    return by_size[turn[by_size].argsort(stable=True)]


STRATEGIES: Final[dict[str, type[QueryStrategy]]] = {
    "none_first": NoneFirst,
    "margin": Margin,
    "entropy": Entropy,
    "none_score": NoneScoreOrder,
    "disagreement": Disagreement,
    "core_set": CoreSet,
    "typical": Typical,
    "random": RandomOrder,
}
"""The strategies by the name that a call gives them."""

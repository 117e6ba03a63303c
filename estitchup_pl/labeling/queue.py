"""What to label next: a table of items, the most worthwhile first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import numpy as np
import pyarrow as pa
import torch

from estitchup_pl.batch import NONE
from estitchup_pl.errors import ConfigError
from estitchup_pl.functional.acquisition import without_near_copies
from estitchup_pl.labeling.clusters import cluster_none
from estitchup_pl.labeling.pool import Pool
from estitchup_pl.labeling.strategies import QueryStrategy
from estitchup_pl.seeding import keyed_generator

NO_GROUP: Final = -1


def build_queue(
    pool: Pool,
    class_names: Sequence[str],
    strategy: QueryStrategy,
    budget: int,
    *,
    similarity: float = 0.98,
    balance: bool = False,
    seed: int = 0,
) -> pa.Table:
    """Choose the items to label next.

    Args:
        pool: Unlabelled items with the decisions of a model.
        class_names: Names of the classes, in the order of the probabilities.
        strategy: What orders them.
        budget: Items to choose, at least 1; fewer where the pool has fewer.
        similarity: Cosine similarity in ``(0, 1]`` from which an item counts as a copy of one before and is
            passed over; 1 keeps all.
        balance: Whether the classes that items are likely of take turns, "none" among them.
        seed: Seed of what a strategy draws.

    Returns:
        A row for each item, best first: ``row`` (of the store), ``predicted`` (class or ``"none"``), ``likely`` (most
        likely class), ``confidence``, ``none_score`` and ``cluster`` (groups of similar items among those that are
        "none", null elsewhere).

    Raises:
        ConfigError: If ``budget`` is below 1 or ``similarity`` out of range.
    """
    if budget < 1:
        raise ConfigError(f"budget: expected at least one item, got {budget}")
    # Enough in order that copies can be passed over; a strategy that picks one by one stops there.
    wanted = len(pool) if balance else min(len(pool), 4 * budget)
    order = strategy.order(pool, wanted, keyed_generator(seed, "queue"))
    chosen: Iterable[int] = without_near_copies(pool.embeddings, order, similarity)
    if balance:
        chosen = in_turns(chosen, pool.predicted.tolist())
    return _table(pool, class_names, torch.tensor(list(islice(chosen, budget)), dtype=torch.int64))


def in_turns(positions: Iterable[int], groups: Sequence[int]) -> Iterator[int]:
    """Let groups take turns, each in its own order; the first seen begins.

    Example:
        >>> list(in_turns([4, 0, 2, 1], groups=[0, 0, 1, 1, 0]))
        [4, 2, 0, 1]
    """
    queues: dict[int, list[int]] = {}
    for position in positions:
        queues.setdefault(groups[position], []).append(position)
    for turn in range(max(map(len, queues.values()), default=0)):
        yield from (queue[turn] for queue in queues.values() if turn < len(queue))


def _table(pool: Pool, class_names: Sequence[str], picked: torch.Tensor) -> pa.Table:
    names = np.array([*class_names, "none"], dtype=object)  # NONE, which is -1, finds the last
    confidence, likely = pool.probabilities[picked].max(dim=1)
    predicted = pool.predicted[picked]
    groups = np.full(len(picked), NO_GROUP)
    is_none = (predicted == NONE).numpy()
    groups[is_none] = cluster_none(pool.embeddings[picked][predicted == NONE])
    return pa.table(
        {
            "row": pool.rows[picked].numpy(),
            "predicted": pa.array(names[predicted.numpy()], pa.string()),
            "likely": pa.array(names[likely.numpy()], pa.string()),
            "confidence": confidence.float().numpy(),
            "none_score": pool.none_scores[picked].float().numpy(),
            "cluster": pa.array(groups, pa.int32(), mask=groups == NO_GROUP),
        }
    )

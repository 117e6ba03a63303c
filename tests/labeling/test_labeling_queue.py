"""What is asked for first, and in which company."""

from __future__ import annotations

import pytest
import torch

from estitchup_pl.batch import NONE
from estitchup_pl.errors import ConfigError
from estitchup_pl.labeling import STRATEGIES, Pool, build_queue
from estitchup_pl.labeling.clusters import cluster_none
from estitchup_pl.labeling.strategies import NoneFirst, Typical

CLASSES = ("hat", "shoe")


def pool(**changes: torch.Tensor) -> Pool:
    """Six items: two of them "none", two unsure, two sure; no two alike."""
    parts = {
        "rows": torch.tensor([10, 11, 12, 13, 14, 15]),
        "embeddings": torch.eye(6),
        "probabilities": torch.tensor([[0.9, 0.1], [0.6, 0.5], [0.2, 0.1], [0.1, 0.95], [0.3, 0.2], [0.55, 0.5]]),
        "none_scores": torch.tensor([0.1, 0.4, 0.8, 0.05, 0.9, 0.45], dtype=torch.float64),
        "predicted": torch.tensor([0, 0, NONE, 1, NONE, 0]),
        "labelled": torch.zeros(0, 6),
    }
    return Pool(**{**parts, **changes})


def test_none_comes_first_and_then_the_least_sure() -> None:
    queue = build_queue(pool(), CLASSES, NoneFirst(), budget=4)
    assert queue["row"].to_pylist() == [14, 12, 15, 11]
    assert queue["predicted"].to_pylist() == ["none", "none", "hat", "hat"]
    assert queue["likely"].to_pylist() == ["hat"] * 4
    assert queue["confidence"].to_pylist() == pytest.approx([0.3, 0.2, 0.55, 0.6])


def test_a_copy_of_an_item_is_not_asked_for_again() -> None:
    embeddings = torch.eye(6)
    embeddings[2] = embeddings[4] * 3
    rows = build_queue(pool(embeddings=embeddings), CLASSES, NoneFirst(), budget=3)["row"].to_pylist()
    assert rows == [14, 15, 11]


def test_classes_take_turns_where_a_balance_is_wanted() -> None:
    queue = build_queue(pool(), CLASSES, NoneFirst(), budget=4, balance=True)
    assert queue["predicted"].to_pylist() == ["none", "hat", "shoe", "none"]


def test_a_budget_beyond_the_pool_takes_all_of_it() -> None:
    assert build_queue(pool(), CLASSES, NoneFirst(), budget=50).num_rows == 6
    with pytest.raises(ConfigError, match="budget"):
        build_queue(pool(), CLASSES, NoneFirst(), budget=0)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_orders_positions_each_at_most_once(name: str) -> None:
    source = torch.Generator().manual_seed(0)
    rows = 40
    probabilities = torch.rand(rows, 3, generator=source)
    items = Pool(
        torch.arange(rows),
        torch.randn(rows, 4, generator=source),
        probabilities,
        1 - probabilities.amax(dim=1).double(),
        probabilities.argmax(dim=1),
        torch.randn(5, 4, generator=source),
        torch.rand(2, rows, 3, generator=source),
    )
    order = STRATEGIES[name]().order(items, 10, torch.Generator().manual_seed(1)).tolist()
    assert len(order) >= 10
    assert len(set(order)) == len(order)
    assert set(order) <= set(range(rows))
    assert order == STRATEGIES[name]().order(items, 10, torch.Generator().manual_seed(1)).tolist()


def test_a_single_model_cannot_disagree() -> None:
    with pytest.raises(ConfigError, match="ensemble"):
        build_queue(pool(), CLASSES, STRATEGIES["disagreement"](), budget=1)


def test_a_cold_start_takes_one_item_of_each_group() -> None:
    centres = torch.eye(4) * 5
    embeddings = centres.repeat_interleave(10, dim=0) + 0.1 * torch.randn(
        40, 4, generator=torch.Generator().manual_seed(0)
    )
    items = pool(embeddings=embeddings, rows=torch.arange(40))
    first = Typical().order(items, 4, torch.Generator().manual_seed(0))[:4]
    assert sorted((first // 10).tolist()) == [0, 1, 2, 3]


def test_similar_items_within_none_are_one_cluster_the_largest_first() -> None:
    noise = 0.01 * torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    found = cluster_none(torch.eye(3)[[0] * 4 + [1] * 8] + noise)
    assert set(found[:4].tolist()) == {1}
    assert set(found[4:].tolist()) == {0}
    assert cluster_none(torch.eye(3)).tolist() == [-1, -1, -1]

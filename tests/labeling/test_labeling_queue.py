"""What is asked for first, and in which company."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.special import rel_entr
from torch import nn

from estitchup_pl import EmbeddingClassifier
from estitchup_pl.batch import NONE
from estitchup_pl.errors import ConfigError
from estitchup_pl.labeling import STRATEGIES, Pool, build_queue
from estitchup_pl.labeling import pool as pool_module
from estitchup_pl.labeling.clusters import cluster_none
from estitchup_pl.labeling.export import with_items
from estitchup_pl.labeling.strategies import NoneFirst, Typical
from estitchup_pl.model.classifier import NetworkCallable
from estitchup_pl.model.networks import EmbeddingMLP, MemberNetwork
from estitchup_pl.store import EmbeddingStore

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


def small_store() -> EmbeddingStore:
    rows = 30
    items = pa.table(
        {"id": [str(row) for row in range(rows)], "label": ["hat", None, None] * 10, "has_warranty": ["yes"] * rows}
    )
    source = np.random.default_rng(0)
    embeddings = {"title": source.normal(size=(rows, 3)), "photo": source.normal(size=(rows, 2))}
    return EmbeddingStore.from_arrays(items, embeddings)


def fitted(network: NetworkCallable = EmbeddingMLP) -> EmbeddingClassifier:
    model = EmbeddingClassifier(network, class_names=CLASSES, modalities={"photo": 2, "title": 3}, scaling="l2")
    model.configure_model()
    model.threshold = 0.5
    return model.eval()


def test_the_pool_of_a_store_is_what_the_model_decides_on_its_unlabelled_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "ROWS_AT_ONCE", 7)
    model, store = fitted(), small_store()
    found = Pool.of_store(model, store)
    rows = found.rows.tolist()
    assert rows == [row for row in range(30) if row % 3]
    decided = model.predict({name: store.gather(rows, [name]) for name in ("title", "photo")})
    assert [(*CLASSES, "none")[code] for code in found.predicted.tolist()] == decided.predicted
    torch.testing.assert_close(found.none_scores, decided.none_scores)
    torch.testing.assert_close(found.probabilities.amax(dim=1), decided.confidence)
    assert len(found.labelled) == 10
    assert found.members is None


class TwoMembers(MemberNetwork):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(nn.Linear(in_features, out_features) for _ in range(2))

    def member_logits(self, embeddings: torch.Tensor) -> torch.Tensor:
        return torch.stack([member(embeddings) for member in self.members])


def test_members_of_an_ensemble_are_asked_where_they_disagree() -> None:
    found = Pool.of_store(fitted(TwoMembers), small_store())
    assert found.members is not None
    assert found.members.shape == (2, 20, 2)
    first, second = found.members.softmax(dim=2).double().numpy()
    mean = (first + second) / 2
    divergence = (rel_entr(first, mean) + rel_entr(second, mean)).sum(axis=1)  # twice Jensen and Shannon's
    order = STRATEGIES["disagreement"]().order(found, 20, torch.Generator())
    assert order[0] == divergence.argmax()
    assert order[-1] == divergence.argmin()


def test_a_users_column_is_shown_and_flags_of_modalities_are_not() -> None:
    queue = build_queue(Pool.of_store(fitted(), small_store()), CLASSES, NoneFirst(), budget=3)
    shown = with_items(queue, small_store())
    assert shown.column_names[:2] == ["id", "has_warranty"]
    assert not {"has_title", "has_photo", "label"} & set(shown.column_names)
    assert shown["id"].to_pylist() == [str(row) for row in queue["row"].to_pylist()]


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

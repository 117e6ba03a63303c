"""A row's part depends on its id alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from estitchup_pl.data import IdSplit
from estitchup_pl.errors import ConfigError, SplitError
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.labels import StoreLabels


def parts(split: IdSplit, ids: list[str], labels: list[str | None]) -> dict[str, str]:
    """Part of each id that has one."""
    table = pa.table({"id": ids, "label": pa.array(labels, pa.string())})
    store = EmbeddingStore.from_arrays(table, {"x": np.ones((len(ids), 1), "float32")})
    divided = split.assign(store, StoreLabels.read(store))
    assert np.array_equal(divided.val, divided.test)
    rows = [(int(row), "train") for row in divided.train] + [(int(row), "test") for row in divided.test]
    assert len({row for row, _ in rows}) == len(rows)
    return {ids[row]: part for row, part in rows}


IDS = [f"item-{number}" for number in range(2000)]
LABELS: list[str | None] = ["a", "b", None, "c"] * 500


def test_new_labels_new_rows_and_another_order_move_no_old_row() -> None:
    before = parts(IdSplit(), IDS, LABELS)
    assert set(before) == {item for item, label in zip(IDS, LABELS, strict=True) if label is not None}
    more = [*IDS, *(f"new-{number}" for number in range(300))][::-1]
    after = parts(IdSplit(), more, ["d"] * len(more))
    assert len(after) == len(more)
    assert all(after[item] == part for item, part in before.items())


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.8])
def test_the_share_that_trains_is_about_the_one_asked_for(fraction: float) -> None:
    found = list(parts(IdSplit(fraction), IDS, ["a"] * 2000).values())
    assert found.count("train") / 2000 == pytest.approx(fraction, abs=0.04)


def test_a_greater_share_only_adds_training_rows() -> None:
    few, many = (parts(IdSplit(fraction), IDS, LABELS) for fraction in (0.3, 0.7))
    assert all(many[item] == "train" for item, part in few.items() if part == "train")


def test_trials_divide_the_ids_anew_and_the_first_is_the_same_for_ever() -> None:
    first, again, other = (parts(IdSplit(0.5).for_trial(trial), IDS, LABELS) for trial in (0, 0, 1))
    assert first == again
    changed = sum(first[item] != other[item] for item in first)
    assert changed / len(first) == pytest.approx(0.5, abs=0.06)
    assert [part for _, part in sorted(first.items())][:8] == RECORDED


def test_unknown_classes_are_evaluated_alone() -> None:
    found = parts(IdSplit(unknown_classes=["b"]), IDS, LABELS)
    assert {found[item] for item, label in zip(IDS, LABELS, strict=True) if label == "b"} == {"test"}
    assert {found[item] for item, label in zip(IDS, LABELS, strict=True) if label == "a"} == {"train", "test"}


def test_what_cannot_be_divided_is_refused() -> None:
    with pytest.raises(ConfigError, match="train_fraction"):
        IdSplit(1.0)
    with pytest.raises(SplitError, match="leaves no row to train on"):
        parts(IdSplit(1e-9), IDS, LABELS)
    with pytest.raises(SplitError, match="leaves no row to evaluate"):
        parts(IdSplit(1 - 1e-9), IDS, LABELS)


RECORDED = ["test", "test", "test", "train", "test", "test", "train", "test"]
"""Parts that the first ids have had since this split came to be."""


def test_equal_values_of_a_group_stand_on_one_side_whatever_their_ids() -> None:
    titles = [None if number % 5 == 0 else f"title {number // 4}" for number in range(len(IDS))]
    table = pa.table({"id": IDS, "label": ["a"] * len(IDS), "title": titles})
    store = EmbeddingStore.from_arrays(table, {"x": np.ones((len(IDS), 1), "float32")})
    split = IdSplit(0.5, group="title").assign(store, StoreLabels.read(store))
    train, test = ({titles[row] for row in rows} - {None} for rows in (split.train, split.test))
    assert not train & test
    assert split.train.size / len(IDS) == pytest.approx(0.5, abs=0.08)
    alone = [row for row in range(len(IDS)) if titles[row] is None]
    by_id = parts(IdSplit(0.5), IDS, ["a"] * len(IDS))
    assert {row: row in set(split.train.tolist()) for row in alone} == {
        row: by_id[IDS[row]] == "train" for row in alone
    }

"""The split of a fit where none is named: a share of each class trains, by the rows' ids."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estitchup_pl.data import EmbeddingDataModule, StratifiedSplit, ThresholdSplit
from estitchup_pl.errors import ConfigError, SplitError
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.labels import StoreLabels

Parts = dict[str, str]


def parts(
    split: StratifiedSplit, labels: list[str | None], ids: list[str] | None = None, groups: list[str] | None = None
) -> Parts:
    """Part of each id that has one."""
    ids = ids or [f"item-{number}" for number in range(len(labels))]
    table = pa.table({"id": ids, "label": pa.array(labels, pa.string()), "group": groups or ids})
    store = EmbeddingStore.from_arrays(table, {"x": np.ones((len(ids), 1), "float32")})
    divided = split.assign(store, StoreLabels.read(store))
    assert np.array_equal(divided.val, divided.test)
    assert np.array_equal(np.union1d(divided.train, divided.test), StoreLabels.read(store).labelled)
    assert not np.intersect1d(divided.train, divided.test).size
    train = set(divided.train.tolist())
    return {ids[row]: "train" if row in train else "test" for row in np.union1d(divided.train, divided.test).tolist()}


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    fraction=st.sampled_from([0.05, 0.5, 0.8, 0.99]),
    trial=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_of_each_class_the_share_trains_and_of_two_rows_one_tests(counts: list[int], fraction: float, trial: int):
    labels: list[str | None] = [f"class-{number}" for number, count in enumerate(counts) for _ in range(count)]
    found = parts(StratifiedSplit(fraction, trial), labels)
    trained = Counter(label for label, part in zip(labels, found.values(), strict=True) if part == "train")
    for number, count in enumerate(counts):
        expected = 1 if count == 1 else min(max(round(fraction * count), 1), count - 1)
        assert trained[f"class-{number}"] == expected


def test_by_default_four_fifths_train_and_classes_of_one_row_too():
    labels: list[str | None] = ["a"] * 100 + ["b"] * 10 + ["c", "c", "d", None, None]
    found = parts(StratifiedSplit(), labels)
    trained = Counter(
        label for label, part in zip([x for x in labels if x], found.values(), strict=True) if part == "train"
    )
    assert trained == {"a": 80, "b": 8, "c": 1, "d": 1}
    assert EmbeddingDataModule("digits").split == StratifiedSplit() == ThresholdSplit().split


def test_at_one_all_rows_train_but_those_of_unknown_classes():
    labels: list[str | None] = ["a"] * 5 + ["b"] * 3 + [None]
    assert set(parts(StratifiedSplit(1), labels).values()) == {"train"}
    found = parts(StratifiedSplit(1, unknown_classes=["b"]), labels)
    assert list(found.values()) == ["train"] * 5 + ["test"] * 3


def test_another_order_divides_alike_and_new_rows_move_few():
    ids, labels = [f"item-{number}" for number in range(400)], ["a", "b", "c", "d"] * 100
    before = parts(StratifiedSplit(), list(labels), ids)
    assert parts(StratifiedSplit(), labels[::-1], ids[::-1]) == before
    more = parts(StratifiedSplit(), [*labels, *labels[:40]], [*ids, *(f"new-{number}" for number in range(40))])
    moved = sum(more[item] != part for item, part in before.items())
    assert moved <= 8  # one row a class for each few that come; drawn anew it would be a third of all
    assert sum(parts(StratifiedSplit(trial=1), list(labels), ids)[item] != part for item, part in before.items()) > 60


def test_which_rows_train_is_the_same_for_ever():
    found = parts(StratifiedSplit(0.5), ["a"] * 8)
    assert "".join(part[1] for part in found.values()) == RECORDED


RECORDED = "rrrereee"  # r of train, e of test


def test_equal_values_of_the_group_never_stand_on_both_sides():
    source = np.random.default_rng(0)
    labels: list[str | None] = source.choice(["a", "b", "c"], 300).tolist()
    groups = [f"group-{number}" for number in source.integers(0, 60, 300)]
    found = list(parts(StratifiedSplit(group="group"), labels, groups=groups).values())
    sides = {group: {part for part, other in zip(found, groups, strict=True) if other == group} for group in groups}
    assert all(len(side) == 1 for side in sides.values())
    assert {"train"} in sides.values()
    assert {"test"} in sides.values()


def test_what_cannot_be_is_told():
    for fraction in (0, -0.1, 1.01):
        with pytest.raises(ConfigError, match="above 0 and be at most 1"):
            StratifiedSplit(fraction)
    with pytest.raises(SplitError, match="no row of the store has a label"):
        parts(StratifiedSplit(), [None, None])
    with pytest.raises(SplitError, match="every class is among unknown_classes"):
        parts(StratifiedSplit(unknown_classes=["a"]), ["a", "a"])

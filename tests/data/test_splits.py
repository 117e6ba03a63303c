"""The paper's protocols: sizes, disjointness, what is unknown, what is repeatable."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from blobs import CLASSES, blobs_store
from hypothesis import given, settings
from hypothesis import strategies as st

from estitchup_pl.batch import NONE
from estitchup_pl.data.digits import digits_store
from estitchup_pl.data.splits import (
    ColumnSplit,
    FoldSplit,
    RowsPerClass,
    Split,
    SplitProtocol,
    ThresholdSplit,
    TrialSplit,
)
from estitchup_pl.errors import ConfigError, SplitError, StoreError
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.labels import StoreLabels
from estitchup_pl.study.splits import BootstrapSplit, SelectionSplit


def assign(protocol: SplitProtocol, store: EmbeddingStore) -> tuple[Split, StoreLabels]:
    labels = StoreLabels.read(store)
    return protocol.assign(store, labels), labels


def test_labels_are_codes_into_sorted_names() -> None:
    store = EmbeddingStore.from_arrays(
        pa.table({"id": ["1", "2", "3", "4"], "label": ["b", None, "a", "b"]}), {"x": np.ones((4, 2), "float32")}
    )
    labels = StoreLabels.read(store)
    assert labels.names == ("a", "b")
    assert labels.codes.tolist() == [1, NONE, 0, 1]
    assert labels.labelled.tolist() == [0, 2, 3]
    assert labels.unlabelled.tolist() == [1]
    assert labels.present(np.array([0, 1])) == ["b"]
    assert labels.index(["z", "a"]).tolist() == [NONE, NONE, 1, NONE]


def test_a_trial_trains_on_a_tenth_and_evaluates_the_rest() -> None:
    split, labels = assign(TrialSplit(), blobs_store(rows=240, unlabelled=10))
    assert split.train.size == 24
    assert np.array_equal(np.union1d(split.train, split.test), labels.labelled)
    assert np.intersect1d(split.train, split.test).size == 0
    assert np.array_equal(split.val, split.test)


def test_trials_differ_and_repeat() -> None:
    store = blobs_store()
    first, again, second = (assign(TrialSplit(trial), store)[0].train for trial in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)


def test_unknown_classes_are_never_trained_on_but_evaluated() -> None:
    split, labels = assign(TrialSplit(train_fraction=0.5, unknown_classes=("fox",)), blobs_store())
    assert "fox" not in labels.present(split.train)
    fox = np.flatnonzero(labels.codes == labels.names.index("fox"))
    assert np.isin(fox, split.test).all()


def test_the_threshold_split_divides_the_trials_training_rows() -> None:
    store = blobs_store(rows=600)
    trial, _ = assign(TrialSplit(2, 0.5), store)
    split, labels = assign(ThresholdSplit(TrialSplit(2, 0.5), 2, held_out=2), store)
    assert split.val.size == 90  # 30 % of 300
    assert np.isin(split.train, trial.train).all()
    assert np.isin(split.val, trial.train).all()
    assert np.intersect1d(split.train, split.val).size == 0
    assert np.array_equal(split.test, trial.test)
    assert len(set(labels.present(split.val)) - set(labels.present(split.train))) == 2
    rest = np.setdiff1d(trial.train, np.union1d(split.train, split.val))
    assert set(labels.present(rest)) == set(CLASSES) - set(labels.present(split.train))


@pytest.mark.parametrize(("held_out", "expected"), [(2, 2), (0.5, 3), (0.01, 1)])
def test_held_out_classes_are_counted_or_a_share_of_those_that_can_be(held_out: int | float, expected: int) -> None:
    split, labels = assign(ThresholdSplit(TrialSplit(2, 0.5), 2, held_out=held_out), blobs_store(rows=600))
    assert len(CLASSES) == 6
    assert len(labels.present(split.train)) == 6 - expected


def test_repeats_divide_anew_and_hold_out_each_class_before_any_twice() -> None:
    store = blobs_store(rows=600)
    splits = [ThresholdSplit(TrialSplit(2, 0.5), 2, held_out=2, repeat=repeat) for repeat in range(4)]
    parts = [assign(split, store) for split in splits]
    out = [set(CLASSES) - set(labels.present(split.train)) for split, labels in parts]
    assert all(len(classes) == 2 for classes in out)
    assert out[0] | out[1] | out[2] == set(CLASSES)
    assert len({split.val.tobytes() for split, _ in parts}) == 4
    np.testing.assert_array_equal(parts[3][0].train, assign(splits[3], store)[0].train)


def test_so_many_rows_a_class_are_drawn_and_no_other_row_trains() -> None:
    store = blobs_store(rows=600)
    outer, _ = assign(TrialSplit(1, 0.5), store)
    splits = [assign(RowsPerClass(7, TrialSplit(1, 0.5), trial), store) for trial in (1, 2)]
    for split, labels in splits:
        assert np.bincount(labels.codes[split.train]).tolist() == [7] * len(CLASSES)
        assert np.isin(split.train, outer.train).all()
        assert np.array_equal(split.test, outer.test)
        assert split.train.max() > outer.train[60]  # not simply the first rows
    assert not np.array_equal(splits[0][0].train, splits[1][0].train)
    all_rows, _ = assign(RowsPerClass(10**6, TrialSplit(1, 0.5)), store)
    assert np.array_equal(all_rows.train, outer.train)
    second, _ = assign(RowsPerClass(7, TrialSplit(0, 0.5)).for_trial(1), store)
    assert np.array_equal(second.train, splits[0][0].train)


def column_store(parts: list[str | None]) -> EmbeddingStore:
    table = pa.table({"id": [str(i) for i in range(len(parts))], "label": ["a"] * len(parts), "split": parts})
    return EmbeddingStore.from_arrays(table, {"x": np.ones((len(parts), 2), "float32")})


def test_a_column_is_taken_as_it_stands() -> None:
    split, _ = assign(ColumnSplit(), column_store(["train", "test", None, "val", "train"]))
    assert (split.train.tolist(), split.val.tolist(), split.test.tolist()) == ([0, 4], [3], [1])


@pytest.mark.parametrize("only", ["val", "test"])
def test_a_column_with_one_evaluated_part_serves_both(only: str) -> None:
    split, _ = assign(ColumnSplit(), column_store(["train", only]))
    assert split.val.tolist() == split.test.tolist() == [1]


def test_an_unknown_part_names_its_row_and_the_nearest_part() -> None:
    with pytest.raises(SplitError, match=r"'split', row 1: .*'Tset'; did you mean 'test'"):
        assign(ColumnSplit(), column_store(["train", "Tset"]))


@pytest.mark.parametrize("validation", ["validation", "valid", "dev", "val", "Validation", "DEV"])
def test_parts_are_understood_as_other_tools_write_them(validation: str) -> None:
    split, _ = assign(ColumnSplit(), column_store(["Train", "TEST", None, validation, "training"]))
    assert (split.train.tolist(), split.val.tolist(), split.test.tolist()) == ([0, 4], [3], [1])


@pytest.mark.parametrize(("parts", "missing"), [(["val", "test"], "train"), (["train", "train"], "val or test")])
def test_a_column_without_a_part_says_which(parts: list[str | None], missing: str) -> None:
    with pytest.raises(SplitError, match=f"no labelled row as {missing}"):
        assign(ColumnSplit(), column_store(parts))


@pytest.mark.parametrize("rows", [0, 1, 4])
def test_a_store_too_small_for_a_trial_says_so(rows: int) -> None:
    with pytest.raises(SplitError, match="no row to train on"):
        assign(TrialSplit(), blobs_store(rows=rows))


def test_holding_out_more_classes_than_there_are_says_so() -> None:
    with pytest.raises(SplitError, match="cannot hold out 6 classes"):
        assign(ThresholdSplit(TrialSplit(0, 0.5), held_out=6), blobs_store())


def test_impossible_options_are_refused() -> None:
    for options in ({"train_fraction": 0.0}, {"train_fraction": 1.0}):
        with pytest.raises(ConfigError, match="train_fraction"):
            TrialSplit(**options)
    with pytest.raises(ConfigError, match="held_out"):
        ThresholdSplit(held_out=0)
    for share in (0.0, 1.0, 2.0):
        with pytest.raises(ConfigError, match="number of classes, at least 1, or their share"):
            ThresholdSplit(held_out=share)
    with pytest.raises(ConfigError, match="rows must be at least 1"):
        RowsPerClass(0)
    with pytest.raises(ConfigError, match="repeat must be 0 or above"):
        ThresholdSplit(repeat=-1)
    with pytest.raises(ConfigError, match="no class 'foxx'; did you mean 'fox'"):
        assign(TrialSplit(unknown_classes=("foxx",)), blobs_store())


class EveryThird(SplitProtocol):
    """A user's own split."""

    def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
        rows = labels.labelled
        return Split(np.setdiff1d(rows, rows[::3]), rows[::3], rows[::3])


def all_splits(inner: SplitProtocol, trial: int) -> list[SplitProtocol]:
    """A split, and every one that divides its training rows."""
    threshold = ThresholdSplit(inner, held_out=1)
    wrapped = [
        RowsPerClass(9, inner),
        threshold,
        SelectionSplit(inner),
        BootstrapSplit(inner, resample=trial),
        SelectionSplit(threshold),
    ]
    return [split.for_trial(trial) for split in (inner, *wrapped)]


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(120, 300), seed=st.integers(0, 99), trial=st.integers(0, 9), fraction=st.floats(0.3, 0.9))
def test_no_test_row_is_ever_trained_on(rows: int, seed: int, trial: int, fraction: float) -> None:
    store = blobs_store(rows, seed=seed)
    parts = np.random.default_rng(seed).choice(["train", "train", "valid", "test"], len(store)).tolist()
    table = store.items.append_column("split", pa.array(parts))
    store = EmbeddingStore.from_arrays(table, {"title": np.ones((len(store), 2), "float32")})
    labels = StoreLabels.read(store)
    for inner in (TrialSplit(train_fraction=fraction, unknown_classes=("fox",)), ColumnSplit(), EveryThird()):
        outer = inner.for_trial(trial).assign(store, labels)
        for protocol in all_splits(inner, trial):
            split = protocol.assign(store, labels)
            assert split.train.size
            assert np.isin(split.train, outer.train).all()
            assert not np.isin(split.train, np.concatenate([outer.test, split.test, split.val])).any()
            assert all(np.array_equal(part, np.sort(part)) for part in (split.train, split.val, split.test))


@pytest.mark.parametrize("inner", [ColumnSplit(), EveryThird()])
def test_a_threshold_split_takes_classes_out_of_any_splits_training_rows(inner: SplitProtocol) -> None:
    store = blobs_store(300)
    parts = ["train", "train", "dev", "test"] * (len(store) // 4) + ["train"] * (len(store) % 4)
    store = EmbeddingStore.from_arrays(
        store.items.append_column("split", pa.array(parts)), {"title": np.ones((len(store), 2), "float32")}
    )
    outer, labels = assign(inner, store)
    split, _ = assign(ThresholdSplit(inner, held_out=2), store)
    assert len(set(labels.present(split.val)) - set(labels.present(split.train))) == 2
    assert split.val.size == outer.train.size - round(0.7 * outer.train.size)
    assert np.array_equal(split.test, outer.test)


RECORDED = {
    (0, "trial"): "111a4aea78501313",
    (0, "threshold"): "1196f4e361233cf8",
    (0, "selection"): "5e697695def2d724",
    (0, "bootstrap"): "205c85272046b139",
    (3, "trial"): "2b89d59bc7165a27",
    (3, "threshold"): "9a504e75f745b3ec",
    (3, "selection"): "6ef1e8e0ea6c8d4b",
    (3, "bootstrap"): "5e29986c5bb9254f",
}
"""Digests of the rows that these splits of the digits gave before they could divide any other split."""


@pytest.mark.parametrize("trial", [0, 3])
def test_the_papers_draws_are_the_same_rows_for_ever(trial: int) -> None:
    store = digits_store()
    inner = TrialSplit(trial, 0.3, ("eight", "nine"))
    splits = {
        "trial": inner,
        "threshold": ThresholdSplit(inner, trial, held_out=2),
        "selection": SelectionSplit(inner, trial, 0.3),
        "bootstrap": BootstrapSplit(inner, trial, 1),
    }
    for name, protocol in splits.items():
        split, _ = assign(protocol, store)
        parts = b"|".join(rows.astype("<i8").tobytes() for rows in (split.train, split.val, split.test))
        assert hashlib.blake2b(parts, digest_size=8).hexdigest() == RECORDED[trial, name]


def test_folds_evaluate_every_labelled_row_once_with_each_class_spread_evenly() -> None:
    store = blobs_store(rows=250, unlabelled=10)
    splits = [assign(FoldSplit(5).for_trial(fold), store) for fold in range(5)]
    labels = splits[0][1]
    assert np.array_equal(np.sort(np.concatenate([split.test for split, _ in splits])), labels.labelled)
    for split, _ in splits:
        assert np.array_equal(np.union1d(split.train, split.test), labels.labelled)
        assert not np.intersect1d(split.train, split.test).size
        counts = np.bincount(labels.codes[split.test], minlength=len(labels.names))
        expected = np.bincount(labels.codes[labels.labelled]) / 5
        assert np.abs(counts - expected).max() < 1


@pytest.mark.parametrize(("folds", "fold"), [(1, 0), (3, 3), (3, -1)])
def test_folds_that_do_not_exist_are_refused(folds: int, fold: int) -> None:
    with pytest.raises(ConfigError, match="folds"):
        FoldSplit(folds, fold)


def test_more_folds_than_rows_are_refused() -> None:
    with pytest.raises(SplitError, match="take fewer"):
        assign(FoldSplit(500, 499), blobs_store(rows=240))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda outer: outer,
        lambda outer: ThresholdSplit(outer, held_out=1),
        lambda outer: SelectionSplit(outer),
        lambda outer: BootstrapSplit(outer),
        lambda outer: ThresholdSplit(RowsPerClass(30, outer), held_out=1),
    ],
)
@pytest.mark.parametrize("trial", range(3))
def test_a_group_never_stands_on_both_sides(wrap: Callable[[SplitProtocol], SplitProtocol], trial: int) -> None:
    store = blobs_store(rows=300)
    titles = [None if row % 7 == 0 else f"title {row // 3}" for row in range(len(store))]
    store = EmbeddingStore.from_arrays(
        store.items.append_column("title", pa.array(titles)), {"x": np.zeros((len(store), 1), "float32")}
    )
    outer = TrialSplit(trial, 0.6, unknown_classes=("fox",), group="title")
    split, labels = assign(wrap(outer), store)
    train, evaluated = ({titles[row] for row in rows} - {None} for rows in (split.train, split.val))
    assert train
    assert evaluated
    assert not train & evaluated
    assert "fox" not in labels.present(split.train)
    share = assign(outer, store)[0].train.size / np.count_nonzero(labels.codes[labels.labelled] != 0)
    assert 0.3 < share <= 0.6


def test_a_missing_column_of_groups_is_named() -> None:
    with pytest.raises(StoreError, match="no column 'titel'"):
        assign(TrialSplit(group="titel"), blobs_store())

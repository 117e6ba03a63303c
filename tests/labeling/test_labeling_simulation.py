"""Rounds of labelling, played through on the embedded digits."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations, count
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from estitchup_pl import EmbeddingClassifier
from estitchup_pl.data import ColumnSplit
from estitchup_pl.data.digits import digits_store
from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.labeling import RoundsFolder, Simulation, labels_needed, payoffs
from estitchup_pl.labeling.payoff import course_of
from estitchup_pl.labeling.simulation import SCHEMA
from estitchup_pl.store import EmbeddingStore


@pytest.fixture(scope="module")
def table() -> pa.Table:
    simulation = Simulation(
        digits_store(), ("random", "margin"), initial=20, per_round=30, rounds=3, trials=2, steps=300
    )
    return simulation.run()


def test_every_strategy_gets_as_many_labels_and_begins_alike(table: pa.Table) -> None:
    labels, first = defaultdict(list), defaultdict(set)
    for row in table.to_pylist():
        labels[row["strategy"], row["trial"]].append(row["labels"])
        if row["round"] == 0:
            first[row["trial"]].add((row["classes"], row["accuracy"]))
    assert set(map(tuple, labels.values())) == {(20, 50, 80, 110)}
    assert all(len(found) == 1 for found in first.values())
    assert first[0] != first[1]


def test_choosing_beats_chance_on_the_digits(table: pa.Table) -> None:
    """Thirty labels a round, three rounds: the margin needs at most nine tenths of the labels of a random choice."""
    needed = labels_needed(table)
    assert needed["random"] <= 110
    assert needed["margin"] < 0.9 * 110


def test_accuracy_counts_rows_of_classes_that_nobody_has_labelled_as_wrong() -> None:
    """Classes far apart are never confused, so the accuracy is the share of test rows whose class is known."""
    source = np.random.default_rng(0)
    codes = source.permutation(np.repeat(np.arange(6), 20))
    embeddings = (10 * np.eye(6)[codes] + source.normal(size=(120, 6)) * 0.1).astype(np.float32)
    items = pa.table({"id": [str(row) for row in range(120)], "label": [f"class {code}" for code in codes]})
    store = EmbeddingStore.from_arrays(items, {"x": embeddings})
    simulation = Simulation(store, ("random",), initial=3, per_round=3, rounds=2, trials=2, steps=200, batch_size=4)
    seen = set()
    for row in simulation.run().to_pylist():
        test = codes[simulation._pool(row["trial"])[1]]
        per_class = [np.mean(test == code) for code in range(6)]
        possible = {round(sum(shares), 9) for shares in combinations(per_class, row["classes"])}
        assert round(row["accuracy"], 9) in possible
        seen.add(row["classes"])
    assert min(seen) < 6


def test_no_test_row_is_ever_asked_for() -> None:
    simulation = Simulation(digits_store(), trials=2, initial=20, per_round=20, rounds=1)
    pool, test = simulation._pool(0)
    assert not np.intersect1d(pool, test).size
    assert len(pool) == round(0.7 * (len(pool) + len(test)))
    assert test.tolist() != simulation._pool(1)[1].tolist()


def scattered_store() -> EmbeddingStore:
    """Six classes far apart, twenty rows each; the last ten rows are of the sixth, and test it alone."""
    codes = np.repeat(np.arange(6), 20)
    source = np.random.default_rng(0)
    embeddings = (10 * np.eye(6)[codes] + source.normal(size=(120, 6)) * 0.1).astype(np.float32)
    split = ["train" if row % 4 else "test" for row in range(100)] + ["test"] * 20
    items = pa.table({"id": [str(row) for row in range(120)], "label": [f"class {code}" for code in codes]})
    return EmbeddingStore.from_arrays(items.append_column("split", pa.array(split)), {"x": embeddings})


def short(**options: object) -> Simulation:
    defaults = {"initial": 4, "per_round": 4, "rounds": 2, "trials": 2, "steps": 60, "batch_size": 4}
    return Simulation(scattered_store(), **{"strategies": ("random", "core_set"), **defaults, **options})


def test_a_split_says_what_may_be_asked_for_and_what_is_evaluated() -> None:
    """Of the sixth class nothing may be asked for, so its rows would be wrong for ever and are left out."""
    pool, test = short(split=ColumnSplit())._pool(0)
    assert pool.tolist() == [row for row in range(100) if row % 4]
    assert test.tolist() == [row for row in range(100) if row % 4 == 0]


def test_classes_that_the_first_labels_leave_out_are_found_later() -> None:
    table = short(split=ColumnSplit(), initial_classes=2, rounds=3).run()
    found = {(row["strategy"], row["trial"], row["round"]): row["classes"] for row in table.to_pylist()}
    assert {found[name, trial, 0] for name in ("random", "core_set") for trial in (0, 1)} == {2}
    assert found["core_set", 0, 1] == found["core_set", 1, 1] == 5  # each the farthest from all before
    simulation = short(split=ColumnSplit(), initial_classes=2)
    classes = [set(simulation._first_labels(np.arange(100), trial) // 20) for trial in (0, 1)]
    assert classes[0] != classes[1]
    with pytest.raises(DataError, match="the 1 classes that they may be of have 15 rows"):
        short(split=ColumnSplit(), initial_classes=1, initial=16)


class _Stopped(Exception):  # noqa: N818
    pass


def test_interrupted_it_goes_on_and_ends_with_the_same_table(tmp_path: Path) -> None:
    whole = short().run()
    rounds = count(1)

    def stop(passed: int) -> None:
        if next(rounds) == 2:
            raise _Stopped

    with pytest.raises(_Stopped):
        short().run(RoundsFolder(tmp_path, {"rounds": 2}), stop)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert sorted(path.name for path in kept) == ["0-000.parquet", "0-001.parquet"]
    assert short().run(RoundsFolder(tmp_path, {"rounds": 2})).equals(whole)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept

    def fail() -> EmbeddingClassifier:
        raise AssertionError("nothing is left to fit")

    assert short(model=fail).run(RoundsFolder(tmp_path, {"rounds": 2})).equals(whole)


def test_a_folder_takes_one_simulation_alone(tmp_path: Path) -> None:
    folder = RoundsFolder(tmp_path / "game", {"rounds": 2, "split": ("a", "b")})
    RoundsFolder(tmp_path / "game", {"rounds": 2, "split": ["a", "b"]})
    with pytest.raises(ConfigError, match=r"rounds was 2 for the rounds that are in .* and is 3 now"):
        RoundsFolder(tmp_path / "game", {"rounds": 3, "split": ["a", "b"]})
    folder.write(0, 0, pa.table({"a": [1]}))
    (damaged,) = (tmp_path / "game").rglob("*.parquet")
    damaged.write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"damaged .* remove it, and the round is played again"):
        folder.read(0, 0)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="neither empty nor the folder of a simulation"):
        RoundsFolder(tmp_path / "other", {})


def test_payoffs_are_the_means_over_trials_with_students_intervals() -> None:
    accuracy = {"random": [(0.5, 0.6), (0.5, 0.7), (0.5, 0.8)], "margin": [(0.5, 0.7), (0.5, 0.9), (0.5, 0.85)]}
    rows = [
        (name, trial, number, 10 * (number + 1), 3 + number * (name == "margin"), values[number])
        for name, trials in accuracy.items()
        for trial, values in enumerate(trials)
        for number in (0, 1)
    ]
    table = pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], SCHEMA)
    found = payoffs(table)["margin"]
    gains, labels = np.array([0.1, 0.2, 0.05]), np.array([15.0, 15.0, 10 + 10 * 0.3 / 0.35])
    for mean, values in ((found.gain, gains), (found.labels, labels), (found.saved, 1 - labels / 20)):
        low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert (mean.value - mean.half, mean.value + mean.half) == pytest.approx((low, high))
    assert found.accuracy.value == pytest.approx(np.mean([0.7, 0.9, 0.85]))
    assert (found.classes.value, found.more_classes.value, found.more_classes.half) == (4, 1, 0)
    baseline = payoffs(table)["random"]
    assert (baseline.gain.value, baseline.labels.value, baseline.saved.value) == (0, 20, 0)
    course = course_of(table, "classes")["margin"]
    assert [(labels, mean.value) for labels, mean in course.items()] == [(10, 3), (20, 4)]
    with pytest.raises(ConfigError, match="'entropy' was not played"):
        payoffs(table, baseline="entropy")


def test_labels_needed_lie_on_the_line_between_two_rounds() -> None:
    rows = [("random", 0, 0, 10, 1, 0.5), ("random", 0, 1, 20, 1, 0.8), ("margin", 0, 0, 10, 1, 0.6)]
    rows += [("margin", 0, 1, 20, 1, 1.0), ("slow", 0, 0, 10, 1, 0.1), ("slow", 0, 1, 20, 1, 0.2)]
    table = pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], SCHEMA)
    needed = labels_needed(table)
    assert needed["random"] == pytest.approx(20)
    assert needed["margin"] == pytest.approx(15)
    assert np.isnan(needed["slow"])


def test_what_cannot_be_played_is_told_before_the_first_fit() -> None:
    with pytest.raises(ConfigError, match="there is no 'margn'"):
        Simulation(digits_store(), ("margn",))
    with pytest.raises(DataError, match="fewer rounds"):
        Simulation(digits_store(), initial=20, per_round=400, rounds=10)
    with pytest.raises(ConfigError, match="rounds must be at least 1"):
        Simulation(digits_store(), rounds=0)

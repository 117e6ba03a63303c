"""Rounds of labelling, played through on the embedded digits."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest

from estitchup_pl.data.digits import digits_store
from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.labeling import Simulation, labels_needed
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
    assert len(test) == round(0.3 * (len(pool) + len(test)))
    assert test.tolist() != simulation._pool(1)[1].tolist()


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

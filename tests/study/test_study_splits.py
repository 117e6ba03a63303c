"""Hyperparameters are chosen on training rows alone."""

from __future__ import annotations

import numpy as np
import pytest
from blobs import blobs_store

from estitchup_pl.data.splits import TrialSplit
from estitchup_pl.errors import ConfigError, SplitError
from estitchup_pl.store.labels import StoreLabels
from estitchup_pl.study.splits import BootstrapSplit, SelectionSplit

STORE = blobs_store(2000)
LABELS = StoreLabels.read(STORE)
PAPER = TrialSplit(trial=1, train_fraction=0.2, unknown_classes=("fox",))
TRIAL = PAPER.assign(STORE, LABELS)


def test_selection_divides_the_trials_training_rows_and_nothing_else():
    split = SelectionSplit(PAPER, 1, 0.25).assign(STORE, LABELS)
    np.testing.assert_array_equal(np.union1d(split.train, split.val), TRIAL.train)
    assert np.intersect1d(split.train, split.val).size == 0
    assert split.val.size == round(0.25 * TRIAL.train.size)
    np.testing.assert_array_equal(split.test, split.val)


def test_selection_is_random_and_repeats():
    first, again = (SelectionSplit(PAPER, 1).assign(STORE, LABELS) for _ in range(2))
    other = SelectionSplit(PAPER).for_trial(2).assign(STORE, LABELS)
    np.testing.assert_array_equal(first.val, again.val)
    assert not np.array_equal(first.val, other.val)
    assert first.val.max() > TRIAL.train[first.val.size]  # not simply the first rows


def test_bootstrap_draws_with_replacement_and_validates_on_what_was_not_drawn():
    splits = [BootstrapSplit(PAPER, 1, number).assign(STORE, LABELS) for number in range(3)]
    for split in splits:
        assert split.train.size == TRIAL.train.size
        np.testing.assert_array_equal(np.setdiff1d(TRIAL.train, split.train), split.val)
        assert 0.3 < split.val.size / TRIAL.train.size < 0.44  # 1/e of the rows is never drawn
    assert not np.array_equal(splits[0].val, splits[1].val)


def test_a_division_without_rows_is_an_error():
    with pytest.raises(ConfigError, match="fraction must lie between 0 and 1"):
        SelectionSplit(fraction=1.0)
    with pytest.raises(SplitError, match="leaves no row to validate on: train on more rows"):
        SelectionSplit(TrialSplit(0, 0.001), fraction=0.1).assign(STORE, LABELS)

"""Options of a fit that need what only the trainer knows, or do not go together by themselves."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau
from training import SMALL, by_name, classifier, data, trainer, weights

from estitchup_pl import EmbeddingClassifier
from estitchup_pl.data.loading import ShuffledBatches
from estitchup_pl.errors import ConfigError, DataError


def test_gradients_are_clipped_under_mixed_precision(tmp_path: Path) -> None:
    model = classifier(lr_scheduler=None)
    run = trainer(tmp_path, epochs=1, precision="bf16-mixed", gradient_clip_val=1e-9)
    run.fit(model, data())
    (optimizer,) = run.optimizers
    assert [group["fused"] for group in optimizer.param_groups] == [False]
    norms = [state["exp_avg"].norm() for state in optimizer.state.values()]
    assert max(norms) < 1e-8  # clipped, not passed over


def test_the_default_optimizer_is_fused_otherwise(tmp_path: Path) -> None:
    run = trainer(tmp_path, epochs=1, gradient_clip_val=1.0)
    run.fit(classifier(), data())
    assert run.optimizers[0].param_groups[0]["fused"]


def test_one_cycle_spans_the_fit(tmp_path: Path) -> None:
    model = classifier(lr_scheduler=partial(OneCycleLR, max_lr=0.01))
    run = trainer(tmp_path, epochs=3)
    run.fit(model, data())
    schedule = run.lr_scheduler_configs[0].scheduler
    assert schedule.total_steps == run.global_step
    assert schedule.get_last_lr()[0] < 0.01 / 10  # near its end, past its peak


def test_one_cycle_without_an_end_is_told(tmp_path: Path) -> None:
    model = classifier(lr_scheduler=partial(OneCycleLR, max_lr=0.01))
    with pytest.raises(ConfigError, match=r"set trainer\.max_epochs or trainer\.max_steps"):
        trainer(tmp_path, epochs=-1, max_time="00:00:01:00").fit(model, data())


def test_what_a_schedule_says_about_its_arguments_comes_through(tmp_path: Path) -> None:
    model = classifier(lr_scheduler=partial(OneCycleLR, max_lr=0.01, total_steps=5, pct_start=7.0))
    with pytest.raises(ValueError, match="pct_start"):
        trainer(tmp_path).fit(model, data())


@pytest.mark.parametrize(
    ("options", "watched", "steps"),
    [({}, "val/loss", 6), ({"check_val_every_n_epoch": 3}, "val/loss", 2), ({"limit_val_batches": 0}, "train/loss", 6)],
)
def test_a_plateau_is_looked_for_whenever_there_is_a_new_value(
    tmp_path: Path, options: dict[str, int], watched: str, steps: int
) -> None:
    model = classifier(lr_scheduler=partial(ReduceLROnPlateau, patience=100))
    run = trainer(tmp_path, epochs=6, **options)
    run.fit(model, data())
    assert run.lr_scheduler_configs[0].monitor == watched
    assert run.lr_scheduler_configs[0].scheduler.last_epoch == steps


def normalized(in_features: int, out_features: int) -> nn.Module:
    return nn.Sequential(nn.Linear(in_features, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, out_features))


def test_batch_normalization_gets_no_batch_of_one_row(tmp_path: Path) -> None:
    rows = data()
    count = len(rows.parts.train)
    whole = data(batch_size=count - 1)
    run = trainer(tmp_path, epochs=1)
    run.fit(classifier(network=normalized), whole)
    assert run.global_step == 1
    for model, batches in ((classifier(network=normalized), 1), (classifier(), 2)):
        run = trainer(tmp_path, epochs=1)
        run.fit(model, data(batch_size=count - 1))
        assert run.global_step == batches


def test_single_rows_alone_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch normalization needs batches of at least 2 rows"):
        trainer(tmp_path).fit(classifier(network=normalized), data(batch_size=1))


@pytest.mark.parametrize(
    ("length", "size", "least", "expected"),
    [(9, 4, 1, [4, 4, 1]), (9, 4, 2, [4, 5]), (8, 4, 2, [4, 4]), (10, 4, 2, [4, 4, 2]), (3, 8, 2, [3]), (5, 4, 2, [5])],
)
def test_a_short_last_batch_joins_the_one_before(length: int, size: int, least: int, expected: list[int]) -> None:
    batches = ShuffledBatches(length, size, 0, least=least)
    assert [len(batch) for batch in batches] == expected
    assert len(batches) == len(expected)
    joined = torch.cat(list(batches))
    assert torch.equal(joined, torch.cat(list(ShuffledBatches(length, size, 0))))  # the same order, cut elsewhere


def test_a_classifier_can_be_pickled_before_and_after_a_fit(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(EmbeddingClassifier()))
    model, rows = classifier(), data()
    trainer(tmp_path, epochs=1).fit(model, rows)
    again = pickle.loads(pickle.dumps(model))
    items = by_name(rows.store, range(4))
    assert torch.equal(again.predict_proba(items), model.predict_proba(items))
    trainer(tmp_path, epochs=1).fit(again, data())  # with the optimizer that it had
    assert any(not torch.equal(value, weights(model)[name]) for name, value in weights(again).items())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((2, 9)), r"'title': expected \(rows, 6\), got \(2, 9\)"),
        (np.zeros(6), r"'title': expected \(rows, 6\), got \(6,\)"),
        (np.array([["a"] * 6]), "'title': expected numbers, got <U1"),
        (np.zeros((1, 6), complex), "'title': expected numbers, got complex128"),
        (torch.zeros(1, 6, dtype=torch.complex64), "'title': expected numbers, got torch.complex64"),
        (torch.zeros(1, 6, dtype=torch.bool), "'title': expected numbers, got torch.bool"),
        ([[0.0] * 6, [0.0]], "'title': expected an array"),
    ],
)
def test_embeddings_that_do_not_fit_are_told(values: object, said: str) -> None:
    model = EmbeddingClassifier(SMALL, class_names=["a", "b"], modalities={"title": 6})
    model.configure_model()
    with pytest.raises(DataError, match=said):
        model.predict_proba({"title": values})


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int8, np.uint16])
def test_arrays_of_any_numbers_are_taken(kind: type) -> None:
    model = EmbeddingClassifier(SMALL, class_names=["a", "b"], modalities={"title": 6})
    model.configure_model()
    array = np.arange(12).reshape(2, 6).astype(kind)
    expected = model.predict_proba({"title": torch.arange(12.0).reshape(2, 6)})
    assert torch.equal(model.predict_proba(array), expected)
    assert (array == np.arange(12).reshape(2, 6)).all()

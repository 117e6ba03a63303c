"""Batches hold what the store holds, each row as often as promised, from wherever they are read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pyarrow as pa
import pytest
import torch
from blobs import CLASSES, blobs_store
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import Normalizer, StandardScaler
from training import by_name, classifier, data, trainer

from estitchup_pl import EmbeddingDataModule, EmbeddingStore
from estitchup_pl.batch import NONE
from estitchup_pl.data.loading import EvenBatches, ShuffledBatches
from estitchup_pl.data.splits import ColumnSplit, ThresholdSplit, TrialSplit
from estitchup_pl.errors import CheckpointError, ConfigError, DataError, SplitError
from estitchup_pl.model import ModalityScaling

Limit = Callable[[int], AbstractContextManager[None]]


def on_disk(tmp_path: Path, **options) -> EmbeddingStore:
    store = blobs_store(**options)
    arrays = {name: store.gather(np.arange(len(store)), [name]) for name in store.modalities}
    return EmbeddingStore.create(tmp_path / "store", store.items.select(["id", "label"]), arrays, rows_per_shard=64)


@pytest.mark.parametrize("cache", ["memory", "off", "auto"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_batches_are_the_stores_rows_concatenated(tmp_path: Path, cache: str, dtype: str) -> None:
    store = on_disk(tmp_path, dtype=dtype)
    module = data(store=store, cache=cache, modalities=["image", "title"])
    module.setup("fit")
    for batch in module.train_dataloader():
        expected = store.gather(batch.rows.numpy(), ["image", "title"])
        assert batch.embeddings.dtype == torch.float32
        assert np.array_equal(batch.embeddings.numpy(), expected.astype(np.float32))
        names = store.column("label").take(pa.array(batch.rows.numpy())).to_pylist()
        assert [module.class_names[label] for label in batch.labels] == names
        assert torch.equal(batch.targets, torch.nn.functional.one_hot(batch.labels, 5).float())


def test_unknown_classes_are_none_with_no_target() -> None:
    module = data()
    module.setup("fit")
    assert module.class_names == tuple(name for name in CLASSES if name != "fox")
    unknown = 0
    for batch in module.val_dataloader():
        none = batch.labels == NONE
        unknown += int(none.sum())
        assert torch.equal(batch.targets.sum(-1), (~none).float())
    foxes = sum(label == "fox" for label in module.store.column("label").to_pylist())
    assert unknown == foxes > 0


def test_memory_does_not_grow_with_the_square_of_the_classes(memory_limit: Limit) -> None:
    names = [f"class-{row:05d}" for row in range(30_000)]
    items = pa.table({"id": names, "label": names, "split": [*["train"] * (len(names) - 2), "val", "test"]})
    store = EmbeddingStore.from_arrays(items, {"v": np.ones((len(names), 1), np.float16)})
    module = EmbeddingDataModule(store, ColumnSplit("split"), batch_size=4)
    with memory_limit(2 << 30):  # the square takes 3.6 GB
        module.setup("fit")
        batch = next(iter(module.train_dataloader()))
    assert torch.equal(batch.targets.nonzero()[:, 1], batch.labels)
    assert batch.targets.sum() == 4


def test_an_epoch_is_a_permutation_that_changes_by_epoch_and_seed() -> None:
    orders = [torch.cat(list(ShuffledBatches(100, 32, seed, epoch=epoch))) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    for order in orders:
        assert sorted(order.tolist()) == list(range(100))
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    assert torch.equal(orders[0], torch.cat(list(ShuffledBatches(100, 32, 0))))


@pytest.mark.parametrize(("length", "world_size"), [(100, 3), (7, 2), (64, 4), (5, 5), (129, 2)])
def test_training_is_dealt_out_in_equal_shares_that_cover_every_row(length: int, world_size: int) -> None:
    shares = [ShuffledBatches(length, 8, 0, rank, world_size) for rank in range(world_size)]
    taken = [list(share) for share in shares]
    assert len({len(batches) for batches in taken}) == 1
    assert all(len(batches) == len(share) for batches, share in zip(taken, shares, strict=True))
    rows = torch.cat([torch.cat(batches) for batches in taken])
    assert set(rows.tolist()) == set(range(length))
    assert len(rows) - length < world_size


@pytest.mark.parametrize(("length", "world_size"), [(100, 3), (7, 2), (64, 4), (3, 5), (129, 2), (1, 1)])
def test_evaluation_takes_each_row_once_in_as_many_batches_on_every_process(length: int, world_size: int) -> None:
    shares = [EvenBatches(length, 8, rank, world_size) for rank in range(world_size)]
    taken = [list(share) for share in shares]
    assert {len(batches) for batches in taken} == {len(shares[0])}
    assert torch.cat([torch.cat(batches) for batches in taken]).tolist() == list(range(length))
    assert max(len(batch) for batches in taken for batch in batches) <= 8


def test_lightning_draws_a_new_order_every_epoch(tmp_path: Path) -> None:
    orders = []

    class Recorder(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            orders.append((trainer.current_epoch, batch.rows.tolist()))

    trainer(tmp_path, callbacks=[Recorder()]).fit(classifier(), data())
    first, second = ([ids for epoch, ids in orders if epoch == number] for number in (0, 1))
    assert sorted(chain(*first)) == sorted(chain(*second))
    assert first != second


def test_standardization_is_fitted_on_training_rows_that_have_the_modality(tmp_path: Path) -> None:
    store = blobs_store(rows=300)
    arrays = {name: store.gather(np.arange(len(store)), [name]).copy() for name in store.modalities}
    arrays["image"][::3] = 0
    store = EmbeddingStore.from_arrays(store.items.select(["id", "label"]), arrays)
    module = data(store=store)
    model = classifier(scaling={"image": "standardize", "title": "l2"})
    trainer(tmp_path, limit_val_batches=0).fit(model, module)
    rows = module.parts.train[module.parts.train % 3 != 0]
    reference = StandardScaler().fit(arrays["image"][rows].astype(np.float64))
    batch = next(iter(module.train_dataloader()))
    scaled = model.scale(batch.embeddings).numpy()
    ids = batch.rows.numpy()
    expected = np.where((ids % 3 == 0)[:, None], 0, reference.transform(arrays["image"][ids].astype(np.float64)))
    np.testing.assert_allclose(scaled[:, 7:], expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(scaled[:, :7], axis=1), 1, atol=1e-6)


def test_centered_rows_have_length_one_around_the_mean_of_the_training_rows_that_have_the_modality() -> None:
    store = blobs_store(rows=300)
    arrays = {name: store.gather(np.arange(len(store)), [name]) + np.float32(3) for name in store.modalities}
    arrays["image"][::3] = 0
    store = EmbeddingStore.from_arrays(store.items.select(["id", "label"]), arrays)
    module = data(store=store)
    module.setup("fit")
    scale = ModalityScaling(module.modalities, "centered_l2")
    scale.fit(module.moments)
    given = torch.from_numpy(np.concatenate([arrays["title"], arrays["image"]], axis=1))
    parts = []
    for name in ("title", "image"):
        train = arrays[name][module.parts.train].astype(np.float64)
        center = StandardScaler(with_std=False).fit(train[train.any(axis=1)])
        scaled = Normalizer().fit_transform(center.transform(arrays[name].astype(np.float64)))
        parts.append(np.where(arrays[name].any(axis=1, keepdims=True), scaled, 0))
    before = given.clone()
    np.testing.assert_allclose(scale(given).numpy(), np.concatenate(parts, axis=1), atol=1e-6)
    assert torch.equal(given, before)


def test_a_constant_column_is_standardized_to_zero() -> None:
    table = pa.table({"id": list("abcd"), "label": ["x", "y", "x", "y"], "split": ["train", "train", "val", "val"]})
    array = np.array([[3, 1], [3, 2], [3, 3], [3, 4]], dtype="float32")
    store = EmbeddingStore.from_arrays(table, {"m": array})
    scale = ModalityScaling({"m": 2}, "standardize")
    scale.fit(EmbeddingDataModule(store, ColumnSplit()).moments)
    assert scale(torch.from_numpy(array))[:, 0].tolist() == [0, 0, 0, 0]


def test_predict_covers_the_rows_it_is_asked_for() -> None:
    for which, expected in (("unlabelled", range(240, 250)), ("all", range(250))):
        module = data(predict_rows=which, eval_batch_size=7)
        module.setup("predict")
        assert torch.cat([batch.rows for batch in module.predict_dataloader()]).tolist() == list(expected)
    module = data(predict_rows="test")
    module.setup("predict")
    assert torch.cat([batch.rows for batch in module.predict_dataloader()]).tolist() == module.parts.test.tolist()


def test_prefetch_threads_end_with_an_abandoned_epoch(tmp_path: Path) -> None:
    module = data(store=on_disk(tmp_path), cache="off", batch_size=4)
    module.setup("fit")
    before = threading.active_count()
    batches = iter(module.train_dataloader())
    next(batches)
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before


def test_validation_tells_whether_a_threshold_can_be_fitted_on_it() -> None:
    known = data(split=TrialSplit(train_fraction=0.5))
    held_out = data(split=ThresholdSplit(TrialSplit(0, 0.5), held_out=2))
    for module in (known, held_out):
        module.setup("fit")
    assert (known.unknown_validation_rows, known.validates_on_test_rows) == (0, True)
    names = held_out.store.column("label").take(pa.array(held_out.parts.val)).to_pylist()
    unknown = [name not in held_out.class_names for name in names]
    assert (held_out.unknown_validation_rows, held_out.validates_on_test_rows) == (sum(unknown), False)
    assert 0 < sum(unknown) < len(unknown)


def test_training_rows_come_in_order_and_all_of_them() -> None:
    module = data(eval_batch_size=50, batch_size=32)
    module.setup("fit")
    batches = list(module.training_rows())
    assert torch.cat([batch.rows for batch in batches]).tolist() == module.parts.train.tolist()
    stored = module.store.gather(module.parts.train, ["title", "image"])
    assert torch.equal(torch.cat([batch.embeddings for batch in batches]), torch.from_numpy(stored))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": ["titel"]}, "unknown modality 'titel'.*did you mean 'title'"),
        ({"modalities": []}, "at least one modality"),
        ({"modalities": ["title", "title"]}, "none twice"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"eval_batch_size": 0}, "eval_batch_size must be at least 1"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        data(**options)


def test_a_hook_that_would_keep_the_model_from_scaling_is_refused(tmp_path: Path) -> None:
    class Own(EmbeddingDataModule):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return batch

    with pytest.raises(ConfigError, match="Own overrides on_after_batch_transfer"):
        trainer(tmp_path).fit(classifier(), Own("digits"))


def test_a_modality_that_no_training_row_has_cannot_be_standardized() -> None:
    table = pa.table({"id": list("abcd"), "label": ["x"] * 4})
    store = EmbeddingStore.from_arrays(table, {"m": np.zeros((4, 2), "float32")})
    with pytest.raises(DataError, match="no training row has the modality 'm'"):
        EmbeddingDataModule(store, TrialSplit(train_fraction=0.5)).moments("m")


def test_a_class_called_none_is_refused_unless_it_is_unknown() -> None:
    table = pa.table({"id": [str(i) for i in range(40)], "label": ["x", "none"] * 20})
    store = EmbeddingStore.from_arrays(table, {"m": np.ones((40, 2), "float32")})
    with pytest.raises(DataError, match="rename it"):
        EmbeddingDataModule(store, TrialSplit(train_fraction=0.5)).setup("fit")
    EmbeddingDataModule(store, TrialSplit(train_fraction=0.5, unknown_classes=["none"])).setup("fit")


def test_nothing_to_predict_says_what_to_choose() -> None:
    module = data(store=blobs_store(unlabelled=0))
    module.setup("predict")
    with pytest.raises(SplitError, match="predict_rows test"):
        module.predict_dataloader()


def test_a_store_that_does_not_fit_the_checkpoint_is_refused(tmp_path: Path) -> None:
    model = classifier()
    trainer(tmp_path).fit(model, data())
    with pytest.raises(CheckpointError, match=r"'title' has 8 columns .* trained on 7"):
        trainer(tmp_path).test(model, data(store=blobs_store(dims=(8, 5))), verbose=False)
    only_title = EmbeddingStore.from_arrays(
        blobs_store().items.select(["id", "label"]), {"title": blobs_store().gather(np.arange(250), ["title"])}
    )
    with pytest.raises(CheckpointError, match=r"trained on the modalities \['title', 'image'\].*only \['title'\]"):
        trainer(tmp_path).test(model, data(store=only_title), verbose=False)


def test_training_rows_of_classes_the_model_does_not_know_are_refused(tmp_path: Path) -> None:
    model = classifier()
    trainer(tmp_path).fit(model, data())
    with pytest.raises(CheckpointError, match=r"1 classes of the training rows .* fox"):
        trainer(tmp_path).fit(model, data(split=TrialSplit(train_fraction=0.5)))


def test_classes_without_a_training_row_are_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        trainer(tmp_path).fit(classifier(), data())
    said = [record.message for record in caplog.records if "without a training row" in record.message]
    assert said == ['1 class without a training row, so "none": fox']


def grouped_blobs() -> EmbeddingStore:
    """The blobs with a column that calls every second row near, the others far, and some nothing."""
    store = blobs_store()
    distance = [None if row % 7 == 0 else ("near", "far")[row % 2] for row in range(len(store))]
    items = store.items.select(["id", "label"]).append_column("distance", pa.array(distance, pa.string()))
    arrays = {name: store.gather(np.arange(len(store)), [name]) for name in store.modalities}
    return EmbeddingStore.from_arrays(items, arrays)


def test_none_is_evaluated_by_groups_of_a_column(tmp_path: Path) -> None:
    module, model = data(store=grouped_blobs(), none_groups="distance"), classifier()
    run = trainer(tmp_path, epochs=1)
    run.fit(model, module)
    (metrics,) = run.test(model, module, verbose=False)
    rows = module.parts.test
    confidence = model.predict_proba(by_name(module.store, rows)).double().amax(dim=1).numpy()
    labels = module.labels.index(module.class_names)[rows]
    distance = np.array(module.store.column("distance").to_pylist(), dtype=object)[rows]
    for group in ("near", "far"):
        kept = (labels != NONE) | (distance == group)
        expected = roc_auc_score(labels[kept] == NONE, -confidence[kept])
        assert metrics[f"test/none_auroc/{group}"] == pytest.approx(expected, abs=1e-6)
        assert f"test/none_fpr95/{group}" in metrics


@pytest.mark.parametrize(
    ("column", "message"),
    [("distanc", "none_groups: .*no column 'distanc'.*distance"), ("id", "none_groups: the column 'id' has .* values")],
)
def test_a_column_that_makes_no_groups_is_refused(tmp_path: Path, column: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        trainer(tmp_path, epochs=1).fit(classifier(), data(store=grouped_blobs(), none_groups=column))

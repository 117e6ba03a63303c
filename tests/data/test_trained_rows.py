"""A checkpoint knows its training rows: they are not tested on, whoever asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pyarrow as pa
import pytest
import torch
from blobs import CLASSES, blobs_store
from sklearn.metrics import accuracy_score, average_precision_score
from training import SMALL, by_name, classifier, trainer

from estitchup_pl import NONE, EmbeddingClassifier, EmbeddingDataModule, EmbeddingStore
from estitchup_pl.callbacks import OODThreshold
from estitchup_pl.data import ColumnSplit, Split, SplitProtocol, ThresholdSplit, TrialSplit
from estitchup_pl.data.trained_rows import build_split, describe_split, digest_ids
from estitchup_pl.errors import CheckpointError, SplitError
from estitchup_pl.store import ModalityInfo
from estitchup_pl.store.labels import StoreLabels

STORE = blobs_store()
MOST = TrialSplit(trial=3, train_fraction=0.8, unknown_classes=("fox",))


@dataclass
class OwnSplit(SplitProtocol):
    start: int = 60

    def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
        rows = labels.labelled
        return Split(rows[self.start :], rows[: self.start], rows[: self.start])


class Rows(pl.Callback):
    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        self.seen += batch.rows.tolist()


def fitted(folder: Path, split: SplitProtocol | None = MOST, epochs: int = 6, **options: Any) -> EmbeddingClassifier:
    run = trainer(folder, epochs, **options)
    run.fit(classifier(), EmbeddingDataModule(STORE, split, batch_size=32))
    run.save_checkpoint(folder / "model.ckpt")
    return EmbeddingClassifier.load_from_checkpoint(folder / "model.ckpt", network=SMALL)


def test_with_only_the_checkpoint_exactly_the_other_rows_are_tested(tmp_path: Path) -> None:
    model, rows = fitted(tmp_path), Rows()
    (metrics,) = trainer(tmp_path, callbacks=[rows]).test(model, EmbeddingDataModule(STORE), verbose=False)
    labels = StoreLabels.read(STORE)
    others = MOST.assign(STORE, labels)
    assert rows.seen == np.setdiff1d(np.arange(240), others.train).tolist() == others.test.tolist()
    probabilities = model.predict_proba(by_name(STORE, rows.seen)).numpy()
    truth = labels.index(model.class_names)[rows.seen]
    assert metrics["test/accuracy"] == pytest.approx(accuracy_score(truth, probabilities.argmax(1)))
    columns = np.concatenate([probabilities, 1 - probabilities.max(1, keepdims=True)], axis=1)
    assert (truth == NONE).any()
    expected = average_precision_score(np.eye(6)[truth], columns, average="weighted")
    assert metrics["test/aupr"] == pytest.approx(expected, abs=1e-6)


def test_rows_that_were_trained_on_are_neither_tested_nor_validated(tmp_path: Path) -> None:
    model = fitted(tmp_path, epochs=1)
    labels = StoreLabels.read(STORE)
    other = TrialSplit(trial=4, train_fraction=0.2)
    evaluated, trained = other.assign(STORE, labels).test, MOST.assign(STORE, labels).train
    count = len(set(evaluated) & set(trained))
    data = EmbeddingDataModule(STORE, other)
    for purpose in ("validate", "test"):
        message = rf"{count} of {len(evaluated)} rows to {purpose} were trained on.*TrialSplit\(trial=3, train_fraction"
        with pytest.raises(SplitError, match=message):
            getattr(trainer(tmp_path), purpose)(model, data, verbose=False)
        with pytest.raises(SplitError, match=message):
            getattr(trainer(tmp_path), purpose)(
                classifier(class_names=model.class_names, modalities=model.modalities),
                data,
                ckpt_path=tmp_path / "model.ckpt",
                weights_only=True,
                verbose=False,
            )


def test_rows_are_known_by_their_ids_wherever_they_stand(tmp_path: Path) -> None:
    model = fitted(tmp_path, epochs=1)
    order = np.random.default_rng(0).permutation(len(STORE))
    items = STORE.items.select(["id", "label"]).take(pa.array(order))
    shuffled = EmbeddingStore.from_arrays(items, by_name(STORE, order))
    every = TrialSplit(train_fraction=0.01)
    evaluated = order[every.assign(shuffled, StoreLabels.read(shuffled)).test]
    count = int(np.isin(evaluated, MOST.assign(STORE, StoreLabels.read(STORE)).train).sum())
    with pytest.raises(SplitError, match=f"^{count} of "):
        trainer(tmp_path).test(model, EmbeddingDataModule(shuffled, every), verbose=False)


def test_a_threshold_fit_is_tested_on_the_rows_of_its_trial(tmp_path: Path) -> None:
    split = ThresholdSplit(TrialSplit(1, 0.5), held_out=2)
    model, rows = fitted(tmp_path, split, callbacks=[OODThreshold()]), Rows()
    trainer(tmp_path, callbacks=[rows]).test(model, EmbeddingDataModule(STORE), verbose=False)
    assert rows.seen == TrialSplit(1, 0.5).assign(STORE, StoreLabels.read(STORE)).test.tolist()


def test_a_resumed_fit_keeps_its_rows_and_one_on_other_rows_adds_to_them(tmp_path: Path) -> None:
    first = fitted(tmp_path, epochs=1)
    resumed = fitted(tmp_path, epochs=2)
    trainer(tmp_path, epochs=2).fit(
        resumed, EmbeddingDataModule(STORE, MOST), ckpt_path=tmp_path / "model.ckpt", weights_only=True
    )
    assert torch.equal(first.trained_on.digests.sort()[0], resumed.trained_on.digests.sort()[0])
    labels = StoreLabels.read(STORE)
    first_rows = MOST.assign(STORE, labels).train
    rest = np.setdiff1d(labels.labelled, first_rows)

    known = rest[labels.codes[rest] != labels.names.index("fox")]

    class Rest(SplitProtocol):
        def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
            return Split(known[:10], known[10:], known[10:])

    trainer(tmp_path, epochs=1).fit(first, EmbeddingDataModule(STORE, Rest()))
    expected = digest_ids(STORE, np.union1d(first_rows, known[:10]))
    assert sorted(first.trained_on.digests.tolist()) == sorted(expected.tolist())


def test_validation_rows_that_train_are_refused_in_a_fit(tmp_path: Path) -> None:
    class Leaky(SplitProtocol):
        def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
            return Split(labels.labelled, labels.labelled[:7], labels.labelled[:7])

    with pytest.raises(SplitError, match="7 of 7 rows to validate were trained on"):
        trainer(tmp_path).fit(classifier(), EmbeddingDataModule(STORE, Leaky()))


def test_a_users_own_split_is_given_again(tmp_path: Path) -> None:
    model = fitted(tmp_path, OwnSplit(100), epochs=1)
    with pytest.raises(SplitError, match=r"OwnSplit\(start=100\), which is or holds a class of your own; none.*give"):
        trainer(tmp_path).test(model, EmbeddingDataModule(STORE), verbose=False)
    (metrics,) = trainer(tmp_path).test(model, EmbeddingDataModule(STORE, OwnSplit(100)), verbose=False)
    assert metrics


@pytest.mark.parametrize(
    "split",
    [TrialSplit(2, 0.3), ColumnSplit("fold"), ThresholdSplit(ColumnSplit("fold"), 3, 0.5, 2), ThresholdSplit()],
    ids=lambda split: type(split).__name__,
)
def test_a_split_of_this_package_comes_back_from_plain_values(split: SplitProtocol, tmp_path: Path) -> None:
    torch.save(describe_split(split), tmp_path / "split.pt")
    again = build_split(torch.load(tmp_path / "split.pt", weights_only=True))
    assert describe_split(again) == describe_split(split)
    assert type(again) is type(split)


def test_what_is_not_plain_is_known_by_its_name_alone() -> None:
    @dataclass
    class Odd(OwnSplit):
        what: object = field(default_factory=object)

    class Bare(SplitProtocol):
        def assign(self, store: EmbeddingStore, labels: StoreLabels) -> Split:
            return Split(labels.labelled[::2], labels.labelled[1::2], labels.labelled[1::2])

    for split in (Odd(), Bare(), ThresholdSplit(Bare())):
        assert describe_split(split)["init_args"] is None
    with pytest.raises(SplitError, match=r"splits\.ThresholdSplit, which is or holds a class of your own"):
        build_split(describe_split(ThresholdSplit(Bare())))


@pytest.mark.parametrize(
    ("description", "error"),
    [
        ({"class_path": "antigravity.Split", "init_args": {}}, SplitError),
        ({"class_path": "estitchup_pl.data.EmbeddingDataModule", "init_args": {"store": "digits"}}, CheckpointError),
        ({"class_path": "estitchup_pl.data.TrialSplt", "init_args": {}}, CheckpointError),
        ({"class_path": "estitchup_pl.data.TrialSplit", "init_args": {"fold": 3}}, CheckpointError),
    ],
)
def test_a_checkpoints_word_imports_nothing_else(description: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"data\.split"):
        build_split(description)


def test_digests_are_the_same_on_every_machine() -> None:
    items = pa.table({"id": ["a", "b", "Müller", "a b"], "label": ["x"] * 4})
    store = EmbeddingStore.from_arrays(items, {"m": np.ones((4, 2), "float32")})
    digests = digest_ids(store, np.array([2, 0]))
    assert digests.tolist() == [-4620035560732007515, 3405396810240292928]


def embedded_by(labels: dict[str, str] | None = None, **title: str | None) -> EmbeddingStore:
    """The store, its titles embedded by what is said, its classes under other names where they are given."""
    arrays = {name: STORE.gather(np.arange(len(STORE)), [name]) for name in STORE.modalities}
    info = {"title": ModalityInfo(7, **title), "image": ModalityInfo(5, encoder="mobilenet")}
    items = STORE.items.select(["id", "label"])
    if labels:
        renamed = [labels.get(name, name) for name in items.column("label").to_pylist()]
        items = items.set_column(1, "label", pa.array(renamed, pa.string()))
    return EmbeddingStore.from_arrays(items, arrays, info)


MINILM = {"encoder": "MiniLM", "pooling": "mean of layers -1, -2", "revision": "7a1"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"encoder": "mpnet"}, r"title: encoder 'mpnet', trained on 'MiniLM'"),
        ({"pooling": "mean of layers -1"}, r"title: pooling 'mean of layers -1', trained on 'mean of layers -1, -2'"),
        ({"revision": "7a2"}, r"title: revision '7a2', trained on '7a1'"),
    ],
)
def test_embeddings_of_another_encoder_are_refused_unless_told(tmp_path: Path, changed: dict, said: str) -> None:
    run = trainer(tmp_path, 1)
    run.fit(classifier(), EmbeddingDataModule(embedded_by(**MINILM), MOST, batch_size=32))
    run.save_checkpoint(tmp_path / "model.ckpt")
    torch.load(tmp_path / "model.ckpt", weights_only=True)
    other = embedded_by(**{**MINILM, **changed})

    def load() -> EmbeddingClassifier:
        return EmbeddingClassifier.load_from_checkpoint(tmp_path / "model.ckpt", network=SMALL)

    for use in (
        lambda data: trainer(tmp_path).test(load(), data, verbose=False),
        lambda data: trainer(tmp_path).validate(load(), data, verbose=False),
        lambda data: trainer(tmp_path).predict(load(), data),
        lambda data: trainer(tmp_path, 1).fit(load(), data),
        lambda data: trainer(tmp_path, 2).fit(classifier(), data, ckpt_path=tmp_path / "model.ckpt", weights_only=True),
    ):
        with pytest.raises(CheckpointError, match=said):
            use(EmbeddingDataModule(other, MOST))
        use(EmbeddingDataModule(other, MOST, other_encoder=True))


def test_what_is_not_known_about_an_encoder_is_no_reason_to_refuse(tmp_path: Path) -> None:
    run = trainer(tmp_path, 1)
    run.fit(classifier(), EmbeddingDataModule(embedded_by(encoder="MiniLM"), MOST, batch_size=32))
    for store in (embedded_by(), embedded_by(encoder="MiniLM", revision="7a1"), embedded_by(encoder="MiniLM")):
        run.test(run.lightning_module, EmbeddingDataModule(store, MOST), verbose=False)


def test_a_threshold_of_another_encoder_is_not_taken_over(tmp_path: Path) -> None:
    scout = ThresholdSplit(TrialSplit(0, 0.6), held_out=2)
    run = trainer(tmp_path, 1, callbacks=[OODThreshold()])
    run.fit(classifier(), EmbeddingDataModule(embedded_by(encoder="MiniLM"), scout, batch_size=32))
    run.save_checkpoint(tmp_path / "scout.ckpt")
    take = trainer(tmp_path, 1, callbacks=[OODThreshold(checkpoint=tmp_path / "scout.ckpt")])
    with pytest.raises(CheckpointError, match="trained on 'MiniLM'"):
        take.fit(classifier(), EmbeddingDataModule(embedded_by(encoder="mpnet"), scout.split, batch_size=32))


def test_it_is_said_where_hardly_any_class_is_known(tmp_path: Path) -> None:
    model = fitted(tmp_path, TrialSplit(3, 0.8), epochs=1)
    renamed = embedded_by({name: f"class-{name}" for name in CLASSES})
    with pytest.warns(UserWarning, match=r'knows 0 of the 6 classes of the rows to test \(class-ant.* 100% .* "none"'):
        trainer(tmp_path).test(model, EmbeddingDataModule(renamed), verbose=False)
    trainer(tmp_path).test(model, EmbeddingDataModule(embedded_by({"ant": "emmet"})), verbose=False)

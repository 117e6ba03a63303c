"""Decisions about tables, arrays and stores: those of the model on the embeddings, each beside its own id."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from toys import LETTERS, Letters, Streamed, embed_on_cpu, expected, write_table
from training import data, trainer

from estitchup_pl import EmbeddingClassifier, EmbeddingDataModule
from estitchup_pl.callbacks import Calibration, OODThreshold
from estitchup_pl.data import ThresholdSplit, TrialSplit
from estitchup_pl.embed import Modality
from estitchup_pl.errors import CheckpointError, ConfigError, DataError
from estitchup_pl.predicting import Arrays, Choice, Predicted, RawItems, predict_items
from estitchup_pl.store import EmbeddingStore

NAMES = ("title", "note")


def texts(count: int, seed: int) -> list[str]:
    """Words of one letter more often than of others, by which their classes are told."""
    draw = np.random.default_rng(seed)
    return [
        "".join(draw.permutation(list(LETTERS[row % 6] * 9 + "".join(draw.choice(list(LETTERS), 6)))))
        for row in range(count)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a fit on embedded texts."""
    place = tmp_path_factory.mktemp("trained")
    columns = {
        "sku": np.arange(120),
        "kind": [LETTERS[row % 6] for row in range(120)],
        "title": texts(120, 0),
        "about": texts(120, 1),
    }
    modalities = {
        "title": Modality("title", Letters(), dtype="float32"),
        "note": Modality("about", Streamed(), dtype="float32"),
    }
    reader = write_table(place / "items.parquet", columns)
    embed_on_cpu(place / "store", reader, modalities, "sku", "kind")
    data = EmbeddingDataModule(place / "store", ThresholdSplit(TrialSplit(train_fraction=0.6), held_out=2))
    model = EmbeddingClassifier(scaling="standardize")
    run = trainer(place, 30, callbacks=[Calibration(), OODThreshold()])
    run.fit(model, data)
    run.save_checkpoint(place / "model.ckpt")
    return place


@pytest.fixture
def predict(folder: Path, tmp_path: Path) -> Callable[..., Predicted]:
    def call(items: Any, out: str = "decisions.parquet", **options: Any) -> Predicted:
        return predict_items(folder / "model.ckpt", items, tmp_path / out, accelerator="cpu", **options)

    return call


def new_table(path: Path, ids: list[int], **changed: Any) -> RawItems:
    columns = {"sku": ids, "title": texts(len(ids), 2), "about": texts(len(ids), 3)} | changed
    write_table(path, columns)
    return RawItems(str(path))


def test_a_table_is_embedded_as_the_training_items_were_and_each_row_decided(
    folder: Path, predict: Callable[..., Predicted], tmp_path: Path
) -> None:
    titles, notes = texts(9, 2), texts(9, 3)
    titles[1], notes[2], titles[3], notes[3] = "broken", None, "nothing", None
    items = new_table(tmp_path / "new.parquet", [7, 300, 301, 302, 303, 304, 305, 306, 307], title=titles, about=notes)
    done = predict(items, level=0.8)
    rows = pq.read_table(tmp_path / "decisions.parquet").to_pylist()
    model = EmbeddingClassifier.load_from_checkpoint(folder / "model.ckpt")
    said = model.predict(
        {
            "title": expected([None if text in ("broken", "nothing") else text for text in titles]),
            "note": expected(notes),
        }
    )
    assert [row["id"] for row in rows] == [7, 300, 301, 302, 303, 304, 305, 306, 307]
    decided = [row for row in rows if row["id"] != 302]
    kept = [0, 1, 2, 4, 5, 6, 7, 8]
    assert [row["predicted"] for row in decided] == [said.predicted[row] for row in kept]
    np.testing.assert_allclose([row["confidence"] for row in decided], said.confidence[kept], atol=1e-5)
    sets = model.decision.sets(said.probabilities, 0.8)
    for row, place in zip(decided, kept, strict=True):
        order = said.probabilities[place].argsort(descending=True).tolist()
        assert row["prediction_set"] == [model.class_names[index] for index in order if sets[place, index]]
    assert [row["problem"] for row in rows[:5]] == [
        None,
        "title: ValueError: cannot be read",
        "note: nothing there",
        "title: nothing there; note: nothing there",
        None,
    ]
    nothing = {key: value for key, value in rows[3].items() if key not in ("id", "trained_on", "problem")}
    assert set(nothing.values()) == {None}
    digests = set(model.trained_on.digests.tolist())
    assert len(digests) == sum(row["trained_on"] for row in pq.read_table(_all(folder, tmp_path)).to_pylist())
    assert (done.summary.rows, done.summary.undecided, done.summary.partly) == (9, 1, 2)
    assert done.summary.none == [row["predicted"] for row in rows].count("none")
    assert f"--store {tmp_path / 'decisions.store'}" in str(done)


def _all(folder: Path, place: Path) -> Path:
    """The decisions about the store of the training items."""
    predict_items(folder / "model.ckpt", folder / "store", place / "all.parquet", accelerator="cpu")
    return place / "all.parquet"


def test_csv_says_the_same_and_its_whole_numbers_are_numbers(predict: Callable[..., Predicted], tmp_path: Path) -> None:
    with (tmp_path / "new.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["sku", "title", "about"], *zip(range(5), texts(5, 2), texts(5, 3), strict=True)])
    predict(RawItems(str(tmp_path / "new.csv")))
    table = pq.read_table(tmp_path / "decisions.parquet")
    assert table.schema.field("id").type == pa.int64()
    predict(RawItems(str(tmp_path / "new.csv")), "decisions.csv", store=tmp_path / "decisions.store")
    with (tmp_path / "decisions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, wanted in zip(rows, table.to_pylist(), strict=True):
        assert (int(row["id"]), row["predicted"]) == (wanted["id"], wanted["predicted"])
        assert json.loads(row["prediction_set"]) == wanted["prediction_set"]
        assert [row["top_classes_1"], row["top_classes_2"]] == wanted["top_classes"][:2]
        assert row["problem"] == ""
    (tmp_path / "odd.csv").write_text("sku,title,about\n007,abc,abc\n8,abc,abc\n")
    predict(RawItems(str(tmp_path / "odd.csv")), "odd.parquet")
    assert pq.read_table(tmp_path / "odd.parquet")["id"].to_pylist() == ["007", "8"]


def test_only_new_items_are_embedded_and_decided(
    predict: Callable[..., Predicted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    embed = Letters.embed
    monkeypatch.setattr(Letters, "embed", lambda self, batch: [seen.extend(batch), embed(self, batch)][1])
    predict(new_table(tmp_path / "three.parquet", [1, 2, 3]), "monday.csv")
    tuesday = new_table(tmp_path / "five.parquet", [1, 2, 3, 4, 5])
    seen.clear()
    predict(tuesday, "tuesday.parquet", choice=Choice.of(since=tmp_path / "monday.csv"))
    assert pq.read_table(tmp_path / "tuesday.parquet")["id"].to_pylist() == [4, 5]
    assert len(seen) == 4  # two items, two modalities
    whole = predict(tuesday, "whole.parquet")
    assert whole.summary.rows == 5
    both = pq.read_table(tmp_path / "whole.parquet").to_pylist()[3:]
    assert [row["predicted"] for row in both] == pq.read_table(tmp_path / "tuesday.parquet")["predicted"].to_pylist()
    predict(tuesday, "two.parquet", choice=Choice.of(["2", "5"]))
    assert pq.read_table(tmp_path / "two.parquet")["id"].to_pylist() == [2, 5]
    nothing = predict(tuesday, "nothing.csv", choice=Choice.of(since=tmp_path / "whole.parquet"))
    assert nothing.summary.rows == 0
    assert (tmp_path / "nothing.csv").read_text().startswith('"id","predicted","confidence"')
    with pytest.raises(ConfigError, match=r"ids: .*five\.parquet has no item '8', '9'"):
        predict(tuesday, "x.parquet", choice=Choice.of(["2", "9", "8"]))
    assert not (tmp_path / "x.store").exists()


def test_a_store_of_its_own_grows_with_its_table(predict: Callable[..., Predicted], tmp_path: Path) -> None:
    catalogue = {"store": tmp_path / "catalogue"}
    predict(new_table(tmp_path / "all.parquet", [1, 2, 3]), "monday.parquet", **catalogue)
    table = new_table(tmp_path / "all.parquet", [1, 2, 3, 4])
    predict(table, "tuesday.parquet", **catalogue, choice=Choice.of(since=tmp_path / "monday.parquet"))
    assert pq.read_table(tmp_path / "tuesday.parquet")["id"].to_pylist() == [4]
    assert len(EmbeddingStore.open(tmp_path / "catalogue")) == 4


def test_a_file_that_is_there_is_replaced_only_when_told_with_its_own_embeddings(
    predict: Callable[..., Predicted], tmp_path: Path
) -> None:
    predict(new_table(tmp_path / "new.parquet", [1, 2, 3]))
    other = new_table(tmp_path / "new.parquet", [8, 9])
    with pytest.raises(ConfigError, match=r"decisions\.parquet exists"):
        predict(other)
    with pytest.raises(ConfigError, match=r"new\.parquet is the table itself"):
        predict(other, "new.parquet", overwrite=True)
    predict(other, overwrite=True)
    assert pq.read_table(tmp_path / "decisions.parquet")["id"].to_pylist() == [8, 9]
    with pytest.raises(ConfigError, match="no longer in the input table"):  # a store that the user named is not dropped
        predict(new_table(tmp_path / "new.parquet", [5]), store=tmp_path / "decisions.store", overwrite=True)


def test_nothing_but_broken_values_is_decided_about_and_fail_stops_at_the_first(
    predict: Callable[..., Predicted], tmp_path: Path
) -> None:
    broken = new_table(tmp_path / "new.parquet", [1], title=["broken"], about=[None])
    done = predict(broken)
    assert (done.summary.rows, done.summary.undecided) == (1, 1)
    with pytest.raises(DataError, match=r"row 0 \(id '1'\): .*cannot be read"):
        predict(broken, "other.parquet", on_error="fail")


def test_columns_of_other_names_are_given(predict: Callable[..., Predicted], tmp_path: Path) -> None:
    plain = new_table(tmp_path / "plain.parquet", [1, 2, 3])
    predict(plain, "plain_decisions.parquet")
    table = pq.read_table(tmp_path / "plain.parquet").rename_columns(["number", "title", "description"])
    pq.write_table(table, tmp_path / "other.parquet")
    with pytest.raises(ConfigError, match=r"column of note: .*other\.parquet has no column 'about'"):
        predict(RawItems(str(tmp_path / "other.parquet"), id="number"))
    with pytest.raises(ConfigError, match=r"text: the model takes 2 such columns \(title, about\), got 1: title"):
        predict(RawItems(str(tmp_path / "other.parquet"), text=["title"]))
    predict(RawItems(str(tmp_path / "other.parquet"), text=["description", "title"], id="number"))
    assert pq.read_table(tmp_path / "decisions.parquet") == pq.read_table(tmp_path / "plain_decisions.parquet")


def test_another_encoder_is_refused_before_it_embeds_anything(
    predict: Callable[..., Predicted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Letters.load

    def other(self: Letters) -> None:
        load(self)
        with torch.no_grad():
            self.matrix.weight += 0.01

    monkeypatch.setattr(Letters, "load", other)
    with pytest.raises(CheckpointError, match=r"modality .title.: the weights of the encoder"):
        predict(new_table(tmp_path / "new.parquet", [1, 2]))
    assert not (tmp_path / "decisions.store").exists()
    assert predict(new_table(tmp_path / "new.parquet", [1, 2]), other_encoder=True).summary.rows == 2


@pytest.mark.parametrize("named", [True, False])
def test_arrays_are_decided_about_as_they_are(
    folder: Path, predict: Callable[..., Predicted], tmp_path: Path, named: bool
) -> None:
    title, note = np.random.default_rng(0).normal(size=(2, 20, 6)).astype(np.float32) * 9
    np.save(tmp_path / "title.npy", title)
    np.savez(tmp_path / "more.npz", note=note, other=note[:3])
    places = {"title": str(tmp_path / "title.npy"), "note": f"{tmp_path / 'more.npz'}:note"}
    write_table(tmp_path / "ids.parquet", {"sku": [f"x{row}" for row in range(20)]})
    predict(Arrays(places, str(tmp_path / "ids.parquet"), "sku") if named else Arrays(places))
    table = pq.read_table(tmp_path / "decisions.parquet")
    assert table["id"].to_pylist() == ([f"x{row}" for row in range(20)] if named else list(range(20)))
    said = EmbeddingClassifier.load_from_checkpoint(folder / "model.ckpt").predict({"title": title, "note": note})
    assert table["predicted"].to_pylist() == said.predicted
    with pytest.raises(ConfigError, match="modality: the model takes title, note, got title"):
        predict(Arrays({"title": places["title"]}), "other.parquet")


def test_of_a_store_those_rows_that_are_asked_for(folder: Path, predict: Callable[..., Predicted]) -> None:
    everything = predict(folder / "store", "all.parquet")
    assert everything.summary.rows == 120
    assert 0 < everything.summary.trained < 120
    tested = predict(folder / "store", "test.parquet", rows="test")
    assert 0 < tested.summary.rows < 120
    assert tested.summary.trained == 0
    assert predict(folder / "store", "unlabelled.parquet", rows="unlabelled").summary.rows == 0


def test_a_checkpoint_that_does_not_know_its_encoders_asks_for_embeddings(tmp_path: Path) -> None:
    run, model = trainer(tmp_path), EmbeddingClassifier()
    run.fit(model, data())
    run.save_checkpoint(tmp_path / "model.ckpt")
    table = write_table(tmp_path / "new.parquet", {"id": [1], "title": ["a"]})
    with pytest.raises(ConfigError, match="does not say how the embeddings of title, image were made"):
        predict_items(tmp_path / "model.ckpt", RawItems(str(table.path)), tmp_path / "d.csv")

"""The predictions file: every row once, decided by the threshold, whole or not there."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from training import by_name, classifier, data, trainer

from estitchup_pl import EmbeddingClassifier, EmbeddingDataModule
from estitchup_pl.callbacks import PredictionWriter
from estitchup_pl.errors import ConfigError, WriteError
from estitchup_pl.model.decision import Decision
from estitchup_pl.model.scores import NeighborDistance
from estitchup_pl.store import EmbeddingStore


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[EmbeddingClassifier, EmbeddingDataModule]:
    model, rows = classifier(), data(predict_rows="all", eval_batch_size=33)
    trainer(tmp_path_factory.mktemp("fit"), epochs=10).fit(model, rows)
    model.threshold = torch.tensor(0.5)
    return model, rows


def test_each_row_is_written_as_the_model_decides(tmp_path: Path, fitted: tuple) -> None:
    model, rows = fitted
    path = tmp_path / "deep" / "predictions.parquet"
    trainer(tmp_path, callbacks=[PredictionWriter(path, top_k=3)]).predict(model, rows, return_predictions=False)
    table = pq.read_table(path)
    assert table.column("id").to_pylist() == [f"item-{row}" for row in range(250)]
    scores = model.predict_proba(by_name(rows.store, range(250))).numpy()
    order = np.argsort(-scores, axis=1)[:, :3]
    names = np.array(model.class_names)
    assert table.column("top_classes").to_pylist() == names[order].tolist()
    probabilities = np.array(table.column("top_probabilities").to_pylist())
    np.testing.assert_allclose(probabilities, np.take_along_axis(scores, order, 1), rtol=1e-5)
    np.testing.assert_allclose(table.column("confidence").to_numpy(), scores.max(1), rtol=1e-5)
    expected = np.where(scores.max(1) > 0.5, names[scores.argmax(1)], "none")
    assert table.column("predicted").to_pylist() == expected.tolist()
    assert 0 < (expected == "none").sum() < 250
    np.testing.assert_allclose(table.column("none_score").to_numpy(), 1 - scores.max(1), atol=1e-6)
    assert set(table.column("threshold").to_pylist()) == {0.5}
    assert np.array_equal(np.flatnonzero(table.column("trained_on").to_numpy()), np.sort(rows.parts.train))
    assert table.column("problem").null_count == 250
    assert "prediction_set" not in table.column_names  # no validation rows to find one by


def test_a_score_of_its_own_decides_and_is_written(tmp_path: Path, fitted: tuple) -> None:
    model, rows = copy.deepcopy(fitted[0]), fitted[1]
    score = NeighborDistance(k=1)
    bank = np.concatenate([*by_name(rows.store, range(100)).values()], axis=1)
    score.fit(torch.from_numpy(bank), torch.zeros(100, dtype=torch.int64))
    model.decision = Decision(score=score, threshold=0.99)
    path = tmp_path / "p.parquet"
    trainer(tmp_path, callbacks=[PredictionWriter(path)]).predict(model, rows, return_predictions=False)
    table = pq.read_table(path)
    everything = np.concatenate([*by_name(rows.store, range(250)).values()], axis=1)
    unit = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in (bank, everything)]
    distance = ((1 - unit[1] @ unit[0].T) / 2).min(axis=1)
    np.testing.assert_allclose(table.column("none_score").to_numpy(), distance, atol=1e-3)
    said_none = np.array(table.column("predicted").to_pylist()) == "none"
    assert np.array_equal(said_none, np.float32(1 - table.column("none_score").to_numpy()) <= np.float32(0.99))
    assert not said_none[:100].any()
    assert said_none[100:].any()


def test_without_a_threshold_the_column_is_null_and_nothing_is_none(tmp_path: Path, fitted: tuple) -> None:
    model = copy.deepcopy(fitted[0])
    model.decision = Decision()
    trainer(tmp_path, callbacks=[PredictionWriter(tmp_path / "p.parquet")]).predict(
        model, fitted[1], return_predictions=False
    )
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.column("threshold").null_count == 250
    assert "none" not in table.column("predicted").to_pylist()


def test_fewer_classes_than_asked_for_are_all_written(tmp_path: Path, fitted: tuple) -> None:
    model, rows = fitted
    trainer(tmp_path, callbacks=[PredictionWriter(tmp_path / "p.parquet", top_k=50)]).predict(
        model, rows, return_predictions=False
    )
    assert {len(classes) for classes in pq.read_table(tmp_path / "p.parquet").column("top_classes").to_pylist()} == {5}


def test_an_item_without_any_modality_is_named_and_not_decided(tmp_path: Path, fitted: tuple) -> None:
    model, rows = copy.deepcopy(fitted[0]), fitted[1].store
    model.decision.unlikely = torch.linspace(0, 0.5, 50, dtype=torch.float64)
    arrays = by_name(rows, range(250))
    arrays["title"][[3, 5]] = 0
    arrays["image"][[5, 6]] = 0
    store = EmbeddingStore.from_arrays(pa.table({"id": np.arange(1000, 1250)}), arrays)
    module = EmbeddingDataModule(store, predict_rows=range(249, 1, -1), eval_batch_size=33)
    for name in ("p.parquet", "p.csv"):
        writer = PredictionWriter(tmp_path / name, top_k=2, level=0.8)
        trainer(tmp_path, callbacks=[writer]).predict(model, module, return_predictions=False)
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.column("id").to_pylist() == list(range(1002, 1250))
    lacking = {row["id"]: row["problem"] for row in table.to_pylist() if row["problem"]}
    assert lacking == {
        1003: "title: nothing there",
        1005: "title: nothing there; image: nothing there",
        1006: "image: nothing there",
    }
    said = ["predicted", "confidence", "none_score", "threshold", "top_classes", "top_probabilities", "prediction_set"]
    undecided = table.to_pylist()[3]
    assert {undecided[name] for name in said} == {None}
    assert all(column.null_count == 1 for column in table.select(said).columns)
    sets = model.decision.sets(model.predict_proba(by_name(store, [7])), 0.8)[0]
    assert set(table.to_pylist()[5]["prediction_set"]) == {model.class_names[place] for place in sets.nonzero()}
    assert writer.summary is not None
    assert (writer.summary.rows, writer.summary.undecided, writer.summary.partly) == (248, 1, 2)
    with (tmp_path / "p.csv").open(newline="") as file:
        csv_rows = list(csv.DictReader(file))
    assert [csv_rows[3][name] for name in ("predicted", "top_classes_1", "prediction_set")] == ["", "", ""]
    assert json.loads(csv_rows[5]["prediction_set"]) == table.to_pylist()[5]["prediction_set"]


@pytest.mark.parametrize("level", [0, 1, -0.1])
def test_an_impossible_level_is_refused(level: float) -> None:
    with pytest.raises(ConfigError, match="level: expected a share between 0 and 1"):
        PredictionWriter(level=level)


def test_an_older_file_is_not_lost(tmp_path: Path, fitted: tuple) -> None:
    path = tmp_path / "predictions.parquet"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="exists"):
        trainer(tmp_path, callbacks=[PredictionWriter(path)]).predict(*fitted, return_predictions=False)
    assert path.read_text() == "precious"
    run = trainer(tmp_path, callbacks=[PredictionWriter(path, overwrite=True)])
    run.predict(*fitted, return_predictions=False)
    assert pq.read_table(path).num_rows == 250


def test_a_failure_leaves_nothing_behind(tmp_path: Path, fitted: tuple) -> None:
    class Broken(PredictionWriter):
        def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
            super().on_predict_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="disk is full"):
        trainer(tmp_path, callbacks=[Broken(tmp_path / "p.parquet")]).predict(*fitted, return_predictions=False)
    assert not list(tmp_path.glob("*p.parquet*"))


def test_a_csv_file_says_the_same(tmp_path: Path, fitted: tuple) -> None:
    for name in ("p.parquet", "p.csv"):
        run = trainer(tmp_path, callbacks=[PredictionWriter(tmp_path / name, top_k=2)])
        run.predict(*fitted, return_predictions=False)
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert len(rows) == len(expected) == 250
    for row, wanted in zip(rows, expected, strict=True):
        assert (row["id"], row["predicted"]) == (wanted["id"], wanted["predicted"])
        assert np.float32(row["confidence"]) == np.float32(wanted["confidence"])
        assert [row["top_classes_1"], row["top_classes_2"]] == wanted["top_classes"]
        numbers = [np.float32(row["top_probabilities_1"]), np.float32(row["top_probabilities_2"])]
        assert numbers == [np.float32(number) for number in wanted["top_probabilities"]]
    assert list(rows[0])[:3] == ["id", "predicted", "confidence"]
    assert list(rows[0])[-3:] == ["top_probabilities_2", "trained_on", "problem"]
    assert {row["trained_on"] for row in rows} == {"true", "false"}


@pytest.mark.parametrize("name", ["predictions.xlsx", "predictions", "predictions.json"])
def test_a_file_of_another_kind_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"written as \.parquet or \.csv: name the file so, got {name}"):
        PredictionWriter(name)


def test_of_two_that_write_one_file_the_second_is_refused(tmp_path: Path, fitted: tuple) -> None:
    """And takes nothing of the first one's away."""

    class Rivalled(PredictionWriter):
        def on_predict_start(self, trainer, pl_module):
            super().on_predict_start(trainer, pl_module)
            with pytest.raises(WriteError, match=r"p\.parquet: another command is writing there"):
                rival(*fitted, return_predictions=False)

    rival = trainer(tmp_path, callbacks=[PredictionWriter(tmp_path / "p.parquet")]).predict
    model, _ = fitted
    own = data(predict_rows="all", eval_batch_size=33)
    run = trainer(tmp_path, callbacks=[Rivalled(tmp_path / "p.parquet")])
    run.predict(copy.deepcopy(model), own, return_predictions=False)
    assert pq.read_table(tmp_path / "p.parquet").num_rows == 250
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]


@pytest.mark.parametrize("limit", [3, 3000])
def test_a_full_disk_leaves_the_older_file(tmp_path: Path, fitted: tuple, file_limit, limit: int) -> None:
    """Full when a part is begun, and when it is written."""
    (tmp_path / "p.parquet").write_text("precious")
    run = trainer(tmp_path, callbacks=[PredictionWriter(tmp_path / "p.parquet", overwrite=True)])
    with file_limit(limit), pytest.raises(WriteError, match=r"p\.parquet: cannot be written"):
        run.predict(*fitted, return_predictions=False)
    assert (tmp_path / "p.parquet").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]


def test_an_impossible_top_k_is_refused() -> None:
    with pytest.raises(ConfigError, match="top_k"):
        PredictionWriter(top_k=0)

"""The predictions file: every row once, decided by the threshold, whole or not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from training import by_name, classifier, data, trainer

from estitchup_pl import EmbeddingClassifier, EmbeddingDataModule
from estitchup_pl.callbacks import PredictionWriter
from estitchup_pl.errors import ConfigError


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


def test_fewer_classes_than_asked_for_are_all_written(tmp_path: Path, fitted: tuple) -> None:
    model, rows = fitted
    trainer(tmp_path, callbacks=[PredictionWriter(tmp_path / "p.parquet", top_k=50)]).predict(
        model, rows, return_predictions=False
    )
    assert {len(classes) for classes in pq.read_table(tmp_path / "p.parquet").column("top_classes").to_pylist()} == {5}


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


def test_an_impossible_top_k_is_refused() -> None:
    with pytest.raises(ConfigError, match="top_k"):
        PredictionWriter(top_k=0)

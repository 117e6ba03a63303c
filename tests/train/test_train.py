"""From data to a model in one call: a store, and a dirty catalogue with texts and pictures."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
import yaml
from blobs import blobs_store
from commands import Run, runner
from raw_catalogue import picture, save_model

from estitchup_pl import train
from estitchup_pl.data import EmbeddingDataModule, FoldSplit
from estitchup_pl.errors import ConfigError, DataError, SplitError
from estitchup_pl.model import EmbeddingClassifier, read_checkpoint
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.labels import StoreLabels
from estitchup_pl.study import StudyFolder
from estitchup_pl.training import budget
from estitchup_pl.training.budget import LADDER, PRESETS, Plan, plan_for
from estitchup_pl.training.methods import train_methods

LEAST = ("--budget", "1 fit", "--accelerator", "cpu", "--workers", "1")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setattr(budget, "LADDER", (Plan(folds=2, repeats=1, steps=24),))  # less than anybody would want
    return runner(tmp_path, monkeypatch, capfd)


def write_blobs(path: Path) -> EmbeddingStore:
    rows = blobs_store(rows=90)
    arrays = {name: rows.gather(np.arange(len(rows)), [name]) for name in rows.modalities}
    EmbeddingStore.create(path, rows.items.select(["id", "label"]), arrays)
    return EmbeddingStore.open(path)


def test_from_a_store_to_predictions_and_on_where_it_stopped(run: Run, tmp_path: Path) -> None:
    store = write_blobs(tmp_path / "blobs")
    labelled = StoreLabels.read(store).labelled
    status, output, errors = run("train", "--store", "blobs", "--out", "model", *LEAST)
    assert status == 0, errors
    assert "10 rows without a label took no part" in output
    results = StudyFolder(tmp_path / "model" / "study").results().to_pylist()
    folds = [row["value"] for row in results if (row["method"], row["metric"]) == ("Chosen", "aupr")]
    assert len(folds) == 2
    assert f"{np.mean(folds):7.3f}" in output
    unknown = [row["value"] for row in results if (row["method"], row["metric"]) == ("Chosen", "none_rows")]
    assert min(unknown) > 0
    checkpoint = read_checkpoint(tmp_path / "model" / "model.ckpt")
    assert len(checkpoint["trained_on"]["digests"]) == len(labelled)
    assert checkpoint["decision"]["threshold"] is not None
    predict = next(line.split() for line in output.splitlines() if "estitchup predict" in line)
    status, said, errors = run(*predict[1:], "--out", "new.parquet", "--accelerator", "cpu")
    assert status == 0, errors
    assert errors == ""
    assert said.startswith("10 items: ")
    assert len(pq.read_table(tmp_path / "new.parquet")) == 10
    study = yaml.safe_load((tmp_path / "model" / "study.yaml").read_text())
    assert study["split"]["class_path"].endswith("FoldSplit")

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "model").rglob("run.json")}
    fits = {path: path.stat().st_mtime_ns for path in (tmp_path / "model").rglob("fit-*.ckpt")}
    status, again, errors = run("train", "--store", "blobs", "--out", "model", *LEAST)
    assert status == 0, errors
    assert again == output
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {path: path.stat().st_mtime_ns for path in fits} == fits


def write_catalogue(folder: Path) -> None:
    """Sixty-four products of four classes, with what real catalogues have: gaps, damage, and a class of one."""
    (folder / "images").mkdir(parents=True)
    with (folder / "products.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "category", "name", "file"])
        for number in range(60):
            kind = number % 4
            (folder / "images" / f"{number}.jpg").write_bytes(picture(number, form="JPEG"))
            table.writerow([number, f"kind {kind}", "abcd"[kind] * (3 + number % 5), f"{number}.jpg"])
        table.writerow([60, "kind 0", "", "nowhere.jpg"])
        (folder / "images" / "61.jpg").write_bytes(b"no picture")
        table.writerow([61, "kind 1", "bbbbb", "61.jpg"])
        table.writerow([62, "the only one", "eeeee", ""])
        table.writerow([63, "", "ccccc", "2.jpg"])


def test_from_a_dirty_catalogue_to_predictions(run: Run, tmp_path: Path) -> None:
    write_catalogue(tmp_path)
    torch.save(timm.create_model("test_efficientnet").state_dict(), tmp_path / "weights.pth")
    encoders = ("--text_encoder", save_model(tmp_path / "bert"), "--image_encoder", "test_efficientnet")
    call = ("train", "products.csv", "--label", "category", "--text", "name", "--image", "file", "--root", "images")
    options = (*encoders, "--image_checkpoint", tmp_path / "weights.pth", "--out", "model", *LEAST)
    status, output, errors = run(*call, *options)
    assert status == 0, errors
    assert "1 class with a single row" in output
    assert "1 row without a label" in output
    failures = pq.read_table(tmp_path / "model" / "store" / "failures.parquet")
    assert sorted(failures["id"].to_pylist()) == ["60", "61"]
    model = EmbeddingClassifier.load_from_checkpoint(tmp_path / "model" / "model.ckpt")
    assert set(model.class_names) == {"kind 0", "kind 1", "kind 2", "kind 3", "the only one"}
    encoder = read_checkpoint(tmp_path / "model" / "model.ckpt")["trained_on"]["encoders"]
    assert encoder["file"]["encoder"] == "test_efficientnet"
    data = EmbeddingDataModule(str(tmp_path / "model" / "store"), predict_rows="unlabelled")
    assert data.store.column("id").take(pa.array(data.labels.unlabelled)).to_pylist() == ["63"]
    decide_about_new_products(run, tmp_path)
    recipe = yaml.safe_load((tmp_path / "model" / "embed.yaml").read_text())
    assert recipe["modalities"]["name"]["column"] == "name"
    assert recipe["modalities"]["file"]["root"] == "images"
    status, _, errors = run(*call[:3], "categry", *call[4:], *options[:-4])
    assert status == 2
    assert "no column 'categry'; did you mean 'category'?" in errors


def decide_about_new_products(run: Run, folder: Path) -> None:
    """By one command, from a table with a broken picture, a missing one, an empty text and nothing at all."""
    (folder / "images" / "70.jpg").write_bytes(picture(70, form="JPEG"))
    (folder / "images" / "71.jpg").write_bytes(b"no picture")
    (folder / "new.csv").write_text("id,name,file\n3,ddd,3.jpg\n70,aaa,70.jpg\n71,bbb,71.jpg\n72,,72.jpg\n73,,\n")
    call = ("predict", "--ckpt_path", "model/model.ckpt", "--items", "new.csv", "--accelerator", "cpu")
    status, output, errors = run(*call, "--out", "decisions.parquet")
    assert status == 0, errors
    assert output.startswith("5 items: ")
    assert "2 not decided" in output
    assert "1 decided without some modality" in output
    assert "file: decisions.parquet" in output
    assert "estitchup queue --store decisions.store --ckpt_path model/model.ckpt" in output
    for noise in ("GPU available", "litlogger", "Tip", "Params", "HPU"):
        assert noise not in output + errors
    rows = pq.read_table(folder / "decisions.parquet").to_pylist()
    assert [row["id"] for row in rows] == [3, 70, 71, 72, 73]
    assert [row["trained_on"] for row in rows] == [True, False, False, False, False]
    assert [row["predicted"] is None for row in rows] == [False, False, False, True, True]
    assert [row["prediction_set"] is None for row in rows] == [False, False, False, True, True]
    assert rows[0]["problem"] is rows[1]["problem"] is None
    assert "cannot identify image file" in rows[2]["problem"]
    assert rows[3]["problem"].startswith("name: nothing there; file: missing file")
    assert rows[4]["problem"] == "name: nothing there; file: nothing there"
    model = EmbeddingClassifier.load_from_checkpoint(folder / "model" / "model.ckpt")
    store = EmbeddingStore.open(folder / "decisions.store")
    said = model.predict({name: store.gather([0, 1, 2], [name]) for name in model.modalities})
    assert [row["predicted"] for row in rows[:3]] == said.predicted
    np.testing.assert_allclose([row["confidence"] for row in rows[:3]], said.confidence, rtol=1e-5)
    status, _, errors = run(*call, "--out", "decisions.parquet")
    assert status == 2
    assert errors == "error: decisions.parquet exists: choose another file, or replace it with --overwrite\n"


def test_wrong_calls_are_told_before_anything_is_written(tmp_path: Path) -> None:
    write_blobs(tmp_path / "blobs")
    (tmp_path / "table.csv").write_text("id,label,text\n1,a,b\n")
    with pytest.raises(ConfigError, match="expected a table of items, or else a store"):
        train(out=tmp_path / "model")
    with pytest.raises(ConfigError, match="take out label"):
        train(store=tmp_path / "blobs", label="label", out=tmp_path / "model")
    with pytest.raises(ConfigError, match="nothing to embed"):
        train(tmp_path / "table.csv", label="label", out=tmp_path / "model")
    with pytest.raises(ConfigError, match="did you mean 'quick'"):
        train(store=tmp_path / "blobs", out=tmp_path / "model", budget="quik")
    assert not (tmp_path / "model").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    (tmp_path / "other" / "study.yaml.tmp").touch()  # what a kill has left
    with pytest.raises(ConfigError, match=r"holds thesis\.tex"):
        train(store=tmp_path / "blobs", out=tmp_path / "other")


def test_two_classes_are_too_few(tmp_path: Path) -> None:
    items = pa.table({"id": [str(row) for row in range(9)], "label": [*"aaaabbbbc"]})
    EmbeddingStore.create(tmp_path / "few", items, {"x": np.eye(9, dtype=np.float32)})
    with pytest.raises(DataError, match="2 classes with two labelled rows or more, expected at least 3"):
        train(store=tmp_path / "few", out=tmp_path / "model")


def test_folds_leave_out_other_classes_each_and_evaluate_each_row_once() -> None:
    store = blobs_store()
    labels = StoreLabels.read(store)
    parts = [FoldSplit(folds=3, fold=fold, held_out=2).assign(store, labels) for fold in range(3)]
    evaluated = np.concatenate([part.test for part in parts])
    assert sorted(evaluated.tolist()) == labels.labelled.tolist()
    unknown = [set(labels.present(labels.labelled)) - set(labels.present(part.train)) for part in parts]
    assert [len(names) for names in unknown] == [2, 2, 2]
    assert len(set.union(*unknown)) == 6
    for part, names in zip(parts, unknown, strict=True):
        known = [
            row for row in labels.labelled if row not in part.test and labels.names[labels.codes[row]] not in names
        ]
        assert part.train.tolist() == known
    with pytest.raises(SplitError, match="cannot hold out 6 of the 6 classes"):
        FoldSplit(held_out=6).assign(store, labels)


def test_a_budget_takes_the_largest_plan_that_it_pays_for() -> None:
    assert plan_for("thorough", 1000, 384, 10) is PRESETS["thorough"]
    assert plan_for("1 fit", 1000, 384, 10) is LADDER[0]
    assert plan_for(f"{LADDER[2].fits} fits", 1000, 384, 10) is LADDER[2]
    assert plan_for(f"{LADDER[2].fits - 1} fits", 1000, 384, 10) is LADDER[1]
    minutes = LADDER[3].minutes(1000, 384, 10)
    assert plan_for(f"{minutes + 0.01:.2f} min", 1000, 384, 10) is LADDER[3]
    assert plan_for(f"{minutes / 60 - 0.001:.3f} h", 1000, 384, 10) is not LADDER[3]
    sizes = [plan.fits * plan.steps for plan in LADDER]
    assert sizes == sorted(sizes)
    assert LADDER[0].epochs(10) == 300
    assert LADDER[0].epochs(10**7) == 12


def test_lda_is_left_out_where_most_classes_have_too_few_rows() -> None:
    every, few = train_methods(LADDER[0], lda=True), train_methods(LADDER[0], lda=False)
    assert {name for name in every if name not in few} == {"LDA", "LDA, temperature", "LDA, sum"}
    assert few["Unlike heads"]["init_args"]["base"] == ["E-Stitchup", "Soft E-Stitchup", "Logistic regression"]
    assert set(few["Chosen"]["init_args"]["methods"]) < set(few)


def test_what_is_taken_where_rows_do_not_tell_depends_on_how_many_there_are() -> None:
    chosen = train_methods(LADDER[0])["Chosen"]["init_args"]
    assert chosen["methods"][0] == "Unlike heads, sum"
    assert chosen["few_rows"] == ["Logistic regression, sum"]

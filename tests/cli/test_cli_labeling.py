"""From a checkpoint to a queue, from answers to labels, and out of this package, as a user types it."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from commands import Run, runner

from estitchup_pl.data import digits_store
from estitchup_pl.store import EmbeddingStore


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(tmp_path, monkeypatch, capfd)


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """The digits without "nine" among their labels, and 300 items without any label."""
    digits = digits_store()
    rows = np.arange(900)
    label = np.array(digits.column("label").take(rows).to_pylist(), dtype=object)
    label[label == "nine"] = None
    label[600:] = None
    items = pa.table(
        {
            "id": digits.column("id").take(rows).combine_chunks(),
            "label": pa.array(label.tolist(), pa.string()),
            "title": [f"digit {row}" for row in rows],
        }
    )
    embeddings = {name: digits.gather(rows, [name]) for name in digits.modalities}
    EmbeddingStore.create(tmp_path / "store", items, embeddings)
    return tmp_path / "store"


FIT = (
    "fit --data.store store --data.split ThresholdSplit --data.split.fit_fraction 0.8 "
    "--data.split.split.train_fraction 0.8 --data.split.held_out 2 --trainer.max_epochs 12 --config threshold/fit"
)


def test_the_labelling_loop_from_a_checkpoint_to_labels_and_back(run: Run, catalogue: Path) -> None:
    status, _, err = run(*FIT.split())
    assert status == 0, err
    checkpoint = next(Path("runs").rglob("last.ckpt"))
    status, out, err = run("queue", "--store", "store", "--ckpt_path", checkpoint, "--out", "q.csv", "--budget", 40)
    assert status == 0, err
    assert "40 of" in out
    with Path("q.csv").open() as file:
        asked = list(csv.DictReader(file))
    assert [row["title"] for row in asked] == [f"digit {digits_row(row['id'])}" for row in asked]
    scores = [float(row["none_score"]) for row in asked if row["predicted"] == "none"]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) >= 10
    sizes = Counter(row["cluster"] for row in asked if row["cluster"])
    assert sizes
    assert f"{len(sizes)} groups of similar items" in out
    members = [row["title"] for row in asked if row["cluster"] == "0"]
    assert f"group 0: {sizes['0']} items, such as '{members[0]}', '{members[1]}', '{members[2]}'" in out

    truth = dict(zip(*(digits_store().column(name).to_pylist() for name in ("id", "label")), strict=True))
    with Path("answers.csv").open("w") as file:
        file.write("id,label\n" + "".join(f"{row['id']},{truth[row['id']]}\n" for row in asked) + "stranger,one\n")
    status, out, _ = run("labels", "store", "answers.csv")
    assert status == 0
    assert out.startswith("40 labels new, 0 changed, 0 confirmed, 1 class new\nnew class 'nine':")
    assert "not in the store: 1 ('stranger')" in out
    before = EmbeddingStore.open("store").column("label").to_pylist()
    assert run("labels", "store", "answers.csv", "--apply")[0] == 0
    after = EmbeddingStore.open("store").column("label").to_pylist()
    assert sum(old != new for old, new in zip(before, after, strict=True)) == 40
    assert "40 new, 0 changed, 0 removed  answers.csv" in run("labels", "store", "--history")[1]
    assert run("labels", "store", "--undo")[0] == 0
    assert EmbeddingStore.open("store").column("label").to_pylist() == before

    status, out, err = run("export", "--ckpt_path", checkpoint, "--out", "model")
    assert status == 0, err
    assert json.loads(Path("model/config.json").read_text())["library"] == "estitchup_pl"
    status, _, err = run("export", "--ckpt_path", checkpoint, "--out", "model")
    assert status == 2
    assert "--overwrite" in err


def digits_row(name: str) -> int:
    return digits_store().column("id").to_pylist().index(name)


def test_planted_label_errors_are_found_by_a_study_of_folds(run: Run) -> None:
    digits = digits_store()
    rows = np.arange(600)
    label = digits.column("label").take(rows).to_pylist()
    wrong = range(0, 600, 40)
    for row in wrong:
        label[row] = "one" if label[row] != "one" else "two"
    items = pa.table({"id": [str(row) for row in rows], "label": label})
    EmbeddingStore.create("store", items, {name: digits.gather(rows, [name]) for name in digits.modalities})
    study = "study --store store --split FoldSplit --split.folds 3 --trials 3 --repeats 1 --held_out 2 --epochs 30"
    methods = json.dumps({"Control": {}})
    status, _, err = run(*study.split(), "--methods", methods, "--model.scaling", "standardize", "--out", "folds")
    assert status == 0, err
    status, out, err = run("label-errors", "folds", "--out", "errors.csv")
    assert status == 0, err
    assert "of 600 labels are likely wrong, by Control" in out
    with Path("errors.csv").open() as file:
        found = [int(row["id"]) for row in csv.DictReader(file)]
    assert len(set(found[: len(wrong)]) & set(wrong)) >= 0.8 * len(wrong)
    assert run("label-errors", "folds", "--method", "Contrl", "--out", "x.csv")[2].count("did you mean 'Control'") == 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("queue --store s --ckpt_path c --out q.txt", "ends in .csv, .parquet or .json"),
        ("queue --store s --ckpt_path c --out q.csv", "is not an embedding store"),
        ("labels s", "expected a file of answers, --undo or --history"),
        ("labels s a.csv --undo", "expected a file of answers, --undo or --history"),
        ("export --ckpt_path c", "expected either --out or --push_to_hub"),
        ("label-errors nowhere --out e.csv", "no study's folder"),
    ],
)
def test_a_wrong_call_is_answered_in_a_sentence(run: Run, call: str, said: str) -> None:
    status, _, err = run(*call.split())
    assert status in (1, 2)
    assert said in err
    assert "Traceback" not in err

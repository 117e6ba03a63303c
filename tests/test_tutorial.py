"""The tutorial, command by command, on the catalogue that it makes; with small encoders, since none are downloaded."""

from __future__ import annotations

import csv
import json
import re
import runpy
import shlex
from pathlib import Path

import onnxruntime
import pytest
import timm
import torch
from commands import runner
from raw_catalogue import save_model

from estitchup_pl.model import read_checkpoint
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.labels import StoreLabels
from estitchup_pl.training import budget
from estitchup_pl.training.budget import Plan

DOCS = Path(__file__).parents[1] / "docs"
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)$", re.MULTILINE)


def commands() -> list[list[str]]:
    text = "".join(CONSOLE.findall((DOCS / "tutorial.md").read_text()))
    return [shlex.split(command.replace("\\\n", " ")) for command in COMMAND.findall(text)]


@pytest.fixture
def encoders(tmp_path: Path) -> list[str]:
    torch.save(timm.create_model("test_efficientnet").state_dict(), tmp_path / "weights.pth")
    image = ["--image_encoder", "test_efficientnet", "--image_checkpoint", str(tmp_path / "weights.pth")]
    return ["--text_encoder", save_model(tmp_path / "bert"), *image]


@pytest.mark.timeout(900)  # two trainings, from the catalogue on
def test_every_step_of_the_tutorial_works(
    tmp_path: Path, encoders: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(budget, "PRESETS", {"quick": Plan(folds=2, repeats=1, steps=24)})
    run = runner(tmp_path, monkeypatch, capfd)
    for words in commands():
        if words[0] == "cd":
            monkeypatch.chdir(words[1])
            continue
        if words[0] == "python":
            runpy.run_path(str(DOCS.parent / words[1]))["write_shop"](Path(words[2]), each=8)
            continue
        assert words[0] == "estitchup", words
        local = [*encoders, "--workers", "1", "--accelerator", "cpu"] if "products.csv" in words else []
        status, _, errors = run(*words[1:], *local)
        changed = (0, 3) if words[1] == "monitor" else (0,)  # a third of the new products is of unknown kinds
        assert status in changed, f"{words}: {errors}"
    shop = tmp_path / "shop"
    trained = [read_checkpoint(shop / name / "model.ckpt")["trained_on"]["digests"] for name in ("model", "model2")]
    answers = list(csv.DictReader((shop / "answers.csv").read_text().splitlines()))
    assert len(trained[1]) == len(trained[0]) + len(answers)
    labels = StoreLabels.read(EmbeddingStore.open(shop / "model" / "store"))
    assert len(labels.unlabelled) == 0
    assert "kayaks" in labels.names
    new, decided, queue = (
        list(csv.DictReader((shop / f"{name}.csv").read_text().splitlines())) for name in ("new", "decisions", "queue")
    )
    assert [row["id"] for row in decided] == [row["id"] for row in new]
    assert {row["predicted"] for row in decided} <= {*labels.names, "none"}
    assert {row["id"] for row in queue} <= {row["id"] for row in answers}
    session = onnxruntime.InferenceSession(shop / "model2" / "model.onnx")
    names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
    assert len(names) == 9
    assert "none" in (shop / "monitor.html").read_text()

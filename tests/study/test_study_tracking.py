"""Weights & Biases gets one run for each method and trial, and a summary."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small import digits_config

from estitchup_pl.errors import ConfigError
from estitchup_pl.study import StudyConfig, StudyFolder, WandbConfig
from estitchup_pl.study.tracking import check_wandb, track


def test_runs_are_grouped_and_reported_once(
    folder: StudyFolder, config: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    begun: list[dict[str, Any]] = []

    class FakeRun:
        def __init__(self, **options: Any) -> None:
            self.options, self.id, self.logged, self.summary, self.files = options, str(len(begun)), [], {}, []
            begun.append({"run": self, **options})

        def log(self, values: dict[str, Any], step: int | None = None) -> None:
            self.logged.append(values)

        def log_artifact(self, artifact: Any) -> None:
            self.files = artifact.files

        def finish(self) -> None:
            json.dumps(self.options["config"])

    class FakeArtifact:
        def __init__(self, name: str, type: str) -> None:
            self.files: list[str] = []

        def add_file(self, path: str) -> None:
            self.files.append(Path(path).name)

    fake = SimpleNamespace(
        init=FakeRun, Settings=dict, Image=str, Artifact=FakeArtifact, Table=lambda columns, data: (columns, data)
    )
    monkeypatch.setitem(sys.modules, "wandb", fake)
    shutil.copytree(folder.path, tmp_path / "copy")
    own = StudyFolder(tmp_path / "copy")
    (own.path / "figures").mkdir()
    (own.path / "figures" / "figure-3.png").touch()
    tracked = StudyConfig(**{**vars(config), "wandb": WandbConfig(project="p", mode="offline")})

    track(config, own)
    assert begun == []  # disabled
    track(tracked, own)
    assert len(begun) == len(config.methods) * config.trials + 1
    assert {(entry["group"], entry["project"], entry["mode"]) for entry in begun} == {("small", "p", "offline")}
    first = next(entry["run"] for entry in begun if entry["name"] == "Control, trial 0")
    assert [point["epoch"] for point in first.logged] == [2, 4]
    assert first.summary["auroc"] > 0.5
    summary = begun[-1]["run"]
    assert any("figures/figure-3" in values for values in summary.logged)
    assert "results.parquet" in summary.files
    track(tracked, own)
    assert len(begun) == len(config.methods) * config.trials + 2  # a new summary alone


def test_wandb_itself_works_offline(tmp_path: Path, folder: StudyFolder):
    wandb = pytest.importorskip("wandb")
    assert wandb is not None
    shutil.copytree(folder.path, tmp_path / "copy")
    header = json.loads((tmp_path / "copy" / "study.json").read_text())
    config = digits_config(trials=1, methods={"Control": digits_config().methods["Control"]})
    config.wandb = WandbConfig(mode="offline")
    assert header["name"] == config.name
    track(config, StudyFolder(tmp_path / "copy"))
    assert len(list((tmp_path / "copy" / "wandb").glob("offline-run-*"))) == 2


def test_without_wandb_it_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    check_wandb(WandbConfig())
    with pytest.raises(ConfigError, match=r"estitchup_pl\[wandb\]"):
        check_wandb(WandbConfig(mode="offline"))

"""Weights & Biases gets one run for each method and trial, and a summary: read back from the files to be sent."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from small import digits_config

from estitchup_pl.errors import ConfigError
from estitchup_pl.study import StudyConfig, StudyFolder, WandbConfig
from estitchup_pl.study.tracking import check_wandb, run_details, track


def test_runs_are_grouped_and_reported_once(
    folder: StudyFolder, config: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb").teardown()  # its process writes where it was begun
    from wandb_records import offline_runs  # reads wandb's own protocol

    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "staged"))
    shutil.copytree(folder.path, tmp_path / "copy")
    own = StudyFolder(tmp_path / "copy")
    (own.path / "figures").mkdir()
    shutil.copy(Path(__file__).parents[2] / "docs/_static/report.png", own.path / "figures" / "figure-3.png")
    names = ("Scaled ensemble", "E-Stitchup", "Chosen", "Control")
    tracked = StudyConfig(**{**vars(config), "trials": 1, "wandb": WandbConfig(project="p", mode="offline")})

    track(config, own)
    assert offline_runs(own.path) == []  # disabled
    track(tracked, own)
    runs = {run.name: run for run in offline_runs(own.path)}
    assert set(runs) == {"summary", *(f"{name}, trial 0" for name in config.methods)}
    assert {run.group for run in runs.values()} == {"small"}

    stitched = runs["E-Stitchup, trial 0"]
    assert [step["epoch"] for step in stitched.history] == [2, 4]
    assert stitched.summary["auroc"] > 0.5
    record = own.record("E-Stitchup", 0)
    assert stitched.config["chosen"] == record.chosen != {}
    assert stitched.config["classes"] == record.class_names
    assert stitched.config["made_of"] == {}
    assert stitched.config["study"]["split"]["init_args"]["train_fraction"] == 0.2
    assert (stitched.config["study"]["seed"], stitched.config["study"]["epochs"]) == (0, 4)
    made_of = {name: list(runs[f"{name}, trial 0"].config["made_of"]) for name in names}
    assert made_of == {
        "Scaled ensemble": ["Ensemble"],
        "E-Stitchup": [],
        "Chosen": ["Control", "Sum", "Scaled", "Regression"],
        "Control": [],
    }
    scaled = runs["Scaled, trial 0"].config
    assert scaled["configuration"]["init_args"]["calibrator"]["class_path"].endswith("Temperature")
    assert scaled["made_of"]["E-Stitchup"] == stitched.config["configuration"]

    summary = runs["summary"]
    assert summary.pictures("figures/figure-3")[0].is_file()
    (files,) = [files for name, files in summary.artifacts.items() if name.startswith("study-")]
    assert files["results.parquet"].read_bytes() == (own.path / "results.parquet").read_bytes()

    track(tracked, own)
    assert len(offline_runs(own.path)) == len(runs) + 1  # a new summary alone


def test_without_wandb_it_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    check_wandb(WandbConfig())
    with pytest.raises(ConfigError, match=r"'\.\[wandb\]'"):
        check_wandb(WandbConfig(mode="offline"))


def test_methods_that_differ_in_an_option_differ_in_their_details() -> None:
    first, second = (
        run_details(digits_config(methods={"Control": {"batch_size": size}}), "Control") for size in (32, 64)
    )
    assert first["configuration"]["init_args"].pop("batch_size") == 32
    assert second["configuration"]["init_args"].pop("batch_size") == 64
    assert first == second

"""Configurations that come along are found by name, and users' modules after the installed ones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from estitchup_pl.cli import main
from estitchup_pl.cli.configs import shipped_configs, with_config_files
from estitchup_pl.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    ("command", "name", "file"),
    [
        ("fit", "e_stitchup", "method/e_stitchup"),
        ("fit", "method/e_stitchup", "method/e_stitchup"),
        ("test", "digits", "data/digits"),
        ("study", "digits", "study/digits"),
        ("embed", "fashion", "embed/fashion"),
        ("fit", "configs/threshold/fit.yaml", "threshold/fit"),
    ],
)
def test_a_name_stands_for_the_commands_file(command: str, name: str, file: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = str(CONFIGS / f"{file}.yaml")
    assert with_config_files(command, ["--config", name, "--x", name]) == ["--config", path, "--x", name]
    assert with_config_files(command, [f"--config={name}"]) == [f"--config={path}"]


def test_every_config_has_a_name() -> None:
    commands = ("fit", "embed", "study", "simulate")
    named = {path.resolve() for command in commands for path in shipped_configs(command).values()}
    there = {path.resolve() for path in CONFIGS.glob("*/*.yaml")}
    assert named == there - {(CONFIGS / "logger" / "sweep.yaml").resolve()}  # which W&B takes


def test_simulate_alone_has_the_configs_of_simulations() -> None:
    names = ("active_learning", "active_learning_head")
    assert set(names) <= set(shipped_configs("simulate"))
    assert not set(names) & set(shipped_configs("study"))


def test_ones_own_file_goes_before_a_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("e_stitchup").write_text("seed_everything: 1\n")
    assert with_config_files("fit", ["--config", "e_stitchup"]) == ["--config", "e_stitchup"]


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"--config e_stichup: there is no such file.*did you mean 'e_stitchup'"):
        with_config_files("fit", ["--config", "e_stichup"])


def test_users_folders_come_last_and_only_for_commands_that_take_classes(tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["estitchup"])
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    before = [*sys.path]
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "mine.yaml").write_text("no_such_option: 1\n")
    assert main(["store", "info", "nowhere"]) == 1
    assert sys.path == before
    assert main(["fit", "--config", "beside/mine.yaml", "--data.store=digits"]) == 2
    assert sys.path == [*before, str(tmp_path), str(tmp_path / "beside")]

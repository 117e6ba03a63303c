"""The sweep for W&B: what its agents start is a fit of ours."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from estitchup_pl.cli import main

SWEEP = Path(__file__).parents[2] / "configs" / "logger" / "sweep.yaml"


def agents_words(sweep: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """Command of an agent for one choice of the parameters, as `wandb agent` makes it."""
    utils = pytest.importorskip("wandb.sdk.launch.sweeps.utils")
    arguments = utils.create_sweep_command_args({"args": {name: {"value": value} for name, value in values.items()}})
    macros = {"args": arguments["args"], "program": [sweep["program"]], "env": ["/usr/bin/env"]}
    words: list[str] = []
    for word in utils.create_sweep_command(sweep["command"]):
        words += macros[word[2:-1]] if word.startswith("${") else [word]
    return words


def test_what_an_agent_starts_reaches_each_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["estitchup"])
    sweep = yaml.safe_load(SWEEP.read_text())
    grid = {name: parameter["values"] for name, parameter in sweep["parameters"].items()}
    choices = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    assert len(choices) == 12
    environment, program, *words = agents_words(sweep, choices[-1])
    assert (environment, program) == ("/usr/bin/env", "estitchup")
    with pytest.raises(SystemExit) as stop:
        main([*words, "--print_config"])
    assert not stop.value.code
    config = yaml.safe_load(capsys.readouterr().out)
    (callback,) = config["trainer"]["callbacks"]
    assert callback["init_args"] == {"alpha": choices[-1]["trainer.callbacks.alpha"]}
    assert config["model"]["init_args"]["network"]["init_args"]["dropout"] == choices[-1]["model.network.dropout"]
    assert config["trainer"]["logger"]["class_path"].endswith("WandbLogger")


def test_the_sweep_looks_at_what_a_fit_logs_on_rows_that_train_nothing() -> None:
    sweep = yaml.safe_load(SWEEP.read_text())
    assert sweep["metric"] == {"name": "val/aupr", "goal": "maximize"}
    assert "--config=digits_threshold" in sweep["command"]

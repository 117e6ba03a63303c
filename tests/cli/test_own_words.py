"""What a command prints: what this package has to say, and nothing of what Lightning tells about itself."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from commands import Run, runner
from lightning.fabric.utilities.seed import seed_everything
from lightning.pytorch.utilities import rank_zero_info

from estitchup_pl.cli.own_words import own_words

NOISE = ("Tip", "litlogger", "GPU", "TPU", "FLOPs", "Modules", "Seed set", "stopped", "LOCAL_RANK", "Params", ".py:")
FIT = ("fit", "--config", "digits_threshold", "--config", "threshold/fit", "--trainer.devices", "1")


def test_a_fit_says_what_it_found_and_nothing_of_lightnings(tmp_path: Path) -> None:
    call = [sys.executable, "-m", "estitchup_pl", *FIT, "--trainer.max_epochs", "1"]
    result = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=True)
    said = result.stdout + result.stderr
    assert [word for word in NOISE if word in said] == []
    assert '4 classes without a training row, so "none"' in said
    assert "warning: the threshold will rest on" in said
    assert "threshold 0." in said


def test_lightnings_remarks_are_held_back_only_while_a_command_runs(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), own_words():
        seed_everything(3)
        rank_zero_info("ours")
    assert caplog.messages == ["ours"]
    with caplog.at_level(logging.INFO):
        seed_everything(3)
    assert caplog.messages == ["ours", "Seed set to 3"]


def test_a_warning_is_one_line_while_a_command_runs() -> None:
    before = warnings.formatwarning
    with own_words():
        assert warnings.formatwarning("few rows", UserWarning, "x.py", 3) == "warning: few rows\n"
    assert warnings.formatwarning is before


@pytest.mark.parametrize(("word", "meant"), [("trian", "train"), ("studdy", "study")])
def test_a_misspelt_command_is_answered_in_one_line(
    word: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run: Run = runner(tmp_path, monkeypatch, capfd)
    status, _, errors = run(word)
    assert (status, errors) == (2, f"error: there is no command {word!r}; did you mean {meant!r}?\n")
    assert "usage: estitchup" in run("xyzzy")[2]

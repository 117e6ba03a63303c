"""The commands as a user types them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch  # noqa: F401  # its log handler takes the stderr there is at its import
import pytest

from estitchup_pl.cli import main

Run = Callable[..., tuple[int, str, str]]


def runner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], pictures: bool = False
) -> Run:
    """Make the function that runs a command in an empty folder: exit status, output and error output.

    Reports have empty files for ``pictures`` unless these are asked for: drawing them takes seconds.
    """
    if not pictures:
        monkeypatch.setattr("estitchup_pl.report.writing.picture", lambda chart: b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["estitchup"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("own_encoder", "my_plugins"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def call(*argv: object) -> tuple[int, str, str]:
        capfd.readouterr()
        status = main([str(argument) for argument in argv])
        return status, *capfd.readouterr()

    return call

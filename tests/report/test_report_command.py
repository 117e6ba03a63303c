"""``estitchup report`` as a user calls it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from commands import Run, runner

from estitchup_pl.study import StudyFolder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(tmp_path, monkeypatch, capfd)


def test_a_folder_that_is_no_study_is_explained(run: Run, tmp_path: Path) -> None:
    status, _, errors = run("report", tmp_path)
    assert status == 1
    assert "study.json: not there, so this is no study's folder" in errors


def test_a_misspelt_option_is_named_with_the_nearest(run: Run) -> None:
    status, _, errors = run("report", "folder", "--quite")
    assert status == 2
    assert "--quite; did you mean '--quiet'?" in errors


def test_a_missing_library_is_explained_with_the_extra_that_brings_it(
    run: Run, study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    status, _, errors = run("report", study.path)
    assert status == 2
    assert "pip install 'estitchup_pl[report]'" in errors

"""``estitchup report`` as a user calls it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Run, runner
from made_study import NAME

from estitchup_pl.errors import ConfigError
from estitchup_pl.study import StudyFolder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(tmp_path, monkeypatch, capfd, pictures=True)


def test_a_folder_that_is_no_study_is_explained(run: Run, tmp_path: Path) -> None:
    status, _, errors = run("report", tmp_path)
    assert status == 1
    assert "study.json: not there, so this is no study's folder" in errors


def test_a_misspelt_option_is_named_with_the_nearest(run: Run) -> None:
    status, _, errors = run("report", "folder", "--quite")
    assert status == 2
    assert "--quite; did you mean '--quiet'?" in errors


@pytest.mark.parametrize("module", ["altair", "jinja2", "vl_convert"])
def test_without_a_library_there_are_tables_and_a_word_on_what_is_left_out(
    run: Run, study: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    path = Path(shutil.copytree(study.path, tmp_path / "copy", ignore=shutil.ignore_patterns("report.html", "figures")))
    monkeypatch.setitem(sys.modules, module, None)
    status, output, errors = run("report", path)
    assert status == 0
    assert "Table 1: ranking" in output
    assert output.splitlines()[-1] == str(path / "tables.md")
    assert json.loads((path / "tables.json").read_text())["study"] == NAME
    assert not (path / "report.html").exists()
    assert not (path / "figures").exists()
    assert "figures/*.png and report.html are left out" in errors
    assert module.replace("vl_convert", "vl-convert-python") in errors
    assert "pip install '.[report]'" in errors


def test_a_study_says_what_its_report_will_leave_out_before_its_first_fit(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise ConfigError("the first fit")

    monkeypatch.setitem(sys.modules, "altair", None)
    monkeypatch.setattr("estitchup_pl.cli.study.run_study", stop)
    _, _, errors = run("study", "--store", "digits", "--out", "folder")
    assert 0 < errors.index("report.html are left out") < errors.index("the first fit")


def test_tables_import_without_the_libraries_that_draw() -> None:
    """In a process of its own: here they are loaded already."""
    without = "sys.modules.update(altair=None, jinja2=None, vl_convert=None)"
    code = f"import sys; {without}; import estitchup_pl.report as report; print(report.missing_libraries())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("figures/*.png and report.html are left out, since altair and jinja2 and vl-conv")

"""The layers of the package: an import against them fails here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--config", "pyproject.toml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(folder)})


def test_imports_point_downward_only() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_an_import_against_the_layers_is_caught(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "estitchup_pl", tmp_path / "estitchup_pl", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "estitchup_pl" / "functional" / "softening.py").open("a") as file:
        file.write("\nfrom estitchup_pl import callbacks\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1
    assert "estitchup_pl.functional.softening -> estitchup_pl.callbacks" in result.stdout

"""What a wheel holds, and that it is enough: built, unpacked and run from an empty folder, away from the clone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import estitchup_pl

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pytest.importorskip("hatchling", reason="builds the wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_package_its_help_and_configurations_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in ROOT.glob("configs/*/*.yaml"):
        assert f"estitchup_pl/{path.relative_to(ROOT)}" in names
    for path in [*ROOT.glob("estitchup_pl/cli/help/*.txt"), ROOT / "estitchup_pl" / "py.typed"]:
        assert str(path.relative_to(ROOT)) in names
    assert {name.partition("/")[0] for name in names} == {
        "estitchup_pl",
        f"estitchup_pl-{estitchup_pl.__version__}.dist-info",
    }


def test_the_wheel_alone_fits_by_names_of_configurations(wheel: Path, tmp_path: Path) -> None:
    site, place = tmp_path / "site", tmp_path / "empty"
    place.mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    code = "import sys, estitchup_pl; print(estitchup_pl.__file__); from estitchup_pl.cli import main; sys.exit(main())"
    options = "--config digits --config method/e_stitchup --config quick --trainer.max_epochs 1 --trainer.devices 1"
    result = subprocess.run(
        [sys.executable, "-c", code, "fit", *options.split(), "--trainer.enable_progress_bar", "false"],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(str(site))
    assert (place / "runs" / "version_0" / "checkpoints" / "last.ckpt").is_file()


def test_the_version_is_said_once() -> None:
    version = estitchup_pl.__version__
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert str(yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]) == version
    assert version not in (ROOT / "pyproject.toml").read_text().partition("dependencies")[0]

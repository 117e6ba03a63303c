"""The documentation says what is so: its examples run, and what it names is there."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
from blobs import blobs_store

from estitchup_pl.cli import main
from estitchup_pl.cli.predict import is_of_lightning, predict_parser
from estitchup_pl.store import EmbeddingStore

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAPER_MAP = ROOT / "docs" / "paper_map.md"

RUNS = re.compile(r"^<!-- runs -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^<!-- file: ([\w.]+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ estitchup ((?:fit|validate|test|predict) (?:.*\\\n)*.*)$", re.MULTILINE)
PLACE = re.compile(r"(?<![\w/.])((?:configs|docs|benchmarks|examples|tests)/[\w./-]*\w)")
SHORT = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.devices=1")


def with_blocks(pattern: re.Pattern[str], but: str = "") -> list[object]:
    return [pytest.param(page, id=page.name) for page in PAGES if pattern.search(page.read_text()) and page.name != but]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory; modules imported from it are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["estitchup"])
    yield tmp_path
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("page", with_blocks(RUNS))
def test_marked_examples_run(page: Path, workplace: Path) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    for text in RUNS.findall(page.read_text()):
        exec(compile(text, str(page), "exec"), names)


@pytest.mark.parametrize("page", with_blocks(FILE))
def test_files_of_a_page_make_a_fit(page: Path, workplace: Path) -> None:
    files = FILE.findall(page.read_text())
    for name, text in files:
        (workplace / name).write_text(text)
    make_products(workplace / "stores" / "products")
    for name, text in files:
        if name.endswith(".yaml"):
            data = () if "\ndata:" in f"\n{text}" else ("--data.store=digits",)
            assert main(["fit", "--config", name, *data, *SHORT]) == 0, name


def make_products(path: Path) -> None:
    rows = blobs_store()
    arrays = {name: rows.gather(np.arange(len(rows)), [name]) for name in rows.modalities}
    EmbeddingStore.create(path, rows.items.select(["id", "label"]), arrays)


@pytest.mark.parametrize("page", with_blocks(COMMAND, but="tutorial.md"))  # which tests/test_tutorial.py runs
def test_printed_commands_are_accepted(page: Path, workplace: Path) -> None:
    (workplace / "runs" / "version_0").mkdir(parents=True)
    (workplace / "runs" / "version_0" / "config.yaml").write_text("seed_everything: 0\n")
    for name, text in FILE.findall(page.read_text()):
        (workplace / name).write_text(text)
    for command in COMMAND.findall("".join(CONSOLE.findall(page.read_text()))):
        name, *words = shlex.split(command.replace("\\\n", " "))
        if name == "predict" and not is_of_lightning(words):
            predict_parser().parse_call(words)  # which ends with the words of a call that it does not take
            continue
        with pytest.raises(SystemExit) as stop:  # which is how a configuration that could be read ends after printing
            main([name, *words, "--print_config"])
        assert not stop.value.code, command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    missing = [place for place in PLACE.findall(page.read_text()) if not (ROOT / place).exists()]
    assert not missing


def test_the_map_of_the_paper_names_code_that_exists() -> None:
    names = set(re.findall(r"\bestitchup_pl[\w.]*\w", PAPER_MAP.read_text()))
    assert len(names) > 20
    for name in names:
        resolve(name)


def resolve(name: str) -> object:
    """Find an attribute by its dotted name, importing modules on the way."""
    parts = name.split(".")
    for stop in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:stop]))
        except ModuleNotFoundError:
            continue
        return reduce(getattr, parts[stop:], module)
    raise AssertionError(f"{name}: no such module")


def test_the_map_of_the_paper_names_tests_that_exist() -> None:
    references = set(re.findall(r"(tests/[\w/]+\.py)::([\w:]+)", PAPER_MAP.read_text()))
    assert len(references) > 20
    missing = [f"{path}::{name}" for path, name in references if name not in names_of_tests(ROOT / path)]
    assert not missing


def names_of_tests(path: Path) -> set[str]:
    """Names of the tests of a file, ``test_it`` or ``TestThing::test_it``."""
    body = ast.parse(path.read_text()).body
    names = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    for group in body:
        if isinstance(group, ast.ClassDef):
            names |= {f"{group.name}::{node.name}" for node in group.body if isinstance(node, ast.FunctionDef)}
    return names

"""Help: one screen, at once, and what it says of each option is what the parser does."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from estitchup_pl.cli import main
from estitchup_pl.cli.embed import embed_parser
from estitchup_pl.cli.export import export_parser
from estitchup_pl.cli.help import TOPICS, short_help
from estitchup_pl.cli.label_errors import label_errors_parser
from estitchup_pl.cli.labels import labels_parser
from estitchup_pl.cli.lightning import EstitchupCLI
from estitchup_pl.cli.monitor import monitor_parser
from estitchup_pl.cli.parser import CommandParser
from estitchup_pl.cli.predict import predict_parser
from estitchup_pl.cli.queue import queue_parser
from estitchup_pl.cli.report import report_parser
from estitchup_pl.cli.serve import serve_parser
from estitchup_pl.cli.simulate import simulate_parser
from estitchup_pl.cli.store import store_parser
from estitchup_pl.cli.study import study_parser
from estitchup_pl.cli.train import train_parser

ROOT = Path(__file__).parents[2]
OPTION = re.compile(r"^  (--[\w.+-]+)(?:[ =][A-Z=]+)?  +.*?(?: \[(.*)\])?$", re.MULTILINE)
SLOW = {"torch", "lightning", "jsonargparse", "numpy", "pyarrow", "sklearn", "rich"}


class _Stop(Exception):  # noqa: N818
    pass


def training_parser(command: str, monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """The parser that LightningCLI builds for a command, taken out before it reads anything."""
    found = []

    def take(cli: EstitchupCLI, parser: Any, args: Any) -> None:
        found.append(cli._parser(command))
        raise _Stop

    monkeypatch.setattr(EstitchupCLI, "parse_arguments", take)
    with pytest.raises(_Stop):
        EstitchupCLI(command)
    return found[0]


def parser_of(topic: str, monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    command, _, part = topic.partition(" ")
    if command == "store":
        return store_parser(part or "info")
    parsers = {
        "embed": embed_parser,
        "export": export_parser,
        "label-errors": label_errors_parser,
        "simulate": simulate_parser,
        "labels": labels_parser,
        "monitor": monitor_parser,
        "predict": predict_parser,
        "queue": queue_parser,
        "report": report_parser,
        "serve": serve_parser,
        "study": study_parser,
        "train": train_parser,
    }
    return parsers[command]() if command in parsers else training_parser(command, monkeypatch)


def defaults(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Default of every option by its name, also of options of default classes; of a class its name."""
    assert isinstance(parser, CommandParser)
    flat = {action.dest: action.default for action in parser._actions}
    nested = yaml.safe_load(parser.dump(parser.get_defaults(), skip_validation=True, skip_none=False))
    flat |= dict(leaves("", nested))
    names = {option: action.dest for action in parser._actions for option in action.option_strings}
    return {f"--{key}": value for key, value in flat.items()} | {name: flat[dest] for name, dest in names.items()}


def leaves(prefix: str, tree: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and "class_path" in value:
            yield name, value["class_path"].rpartition(".")[2]
            yield from leaves(f"{name}.", value.get("init_args") or {})
        elif isinstance(value, dict):
            yield from leaves(f"{name}.", value)
        else:
            yield name, value


@pytest.mark.parametrize("topic", sorted(TOPICS))
def test_every_option_of_the_help_is_the_parsers_with_the_same_default(
    topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = defaults(parser_of(topic, monkeypatch))
    listed = dict(OPTION.findall(TOPICS[topic].read_text()))
    listed.pop("--debug", None)  # which is taken before the parser
    assert len(listed) >= (topic != "store")
    for name, shown in listed.items():
        option = name.removesuffix("+")
        assert option in known, f"{topic}: {name}"
        if shown:
            assert yaml.safe_load(shown) == known[option], f"{topic}: {name}"


def test_options_of_a_help_are_found_in_it() -> None:
    text = "x\n  --a.b CLASS  words [Thing]\n  --c         words (none)\n  --d+=CLASS  w [[1, 2]]\n  e --f  no\n"
    assert OPTION.findall(text) == [("--a.b", "Thing"), ("--c", ""), ("--d+", "[1, 2]")]


@pytest.mark.parametrize("topic", sorted(TOPICS))
def test_help_is_one_screen(topic: str) -> None:
    lines = short_help(*topic.split()[:1], topic.split()[1:]).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 118


@pytest.mark.parametrize("topic", sorted(TOPICS))
def test_help_ends_with_a_page_on_the_command(topic: str) -> None:
    command = topic.split()[0]
    name = short_help(command).splitlines()[-1].split()[1]
    assert f"estitchup {command}" in (ROOT / name).read_text()


def test_help_answers_before_anything_slow_is_imported() -> None:
    calls = [["--help"], *([*topic.split(), "--help"] for topic in TOPICS)]
    code = (
        "import sys; from estitchup_pl.cli import main\n"
        f"for call in {calls}: assert main(call) == 0\n"
        f"print('loaded:', sorted({SLOW} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.count("usage: estitchup") == len(calls)
    assert result.stdout.endswith("loaded: []\n")


@pytest.mark.parametrize(
    ("call", "shown"),
    [
        ("fit", "--trainer.gradient_clip_val"),
        ("embed", "--workers"),
        ("study", "--more_methods"),
        ("report", "--quiet"),
        ("store create", "--clip-retrieval"),
    ],
)
def test_help_all_is_the_parsers_own(call: str, shown: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*call.split(), "--help", "all"])
    assert not stop.value.code
    assert shown in capfd.readouterr().out

"""``estitchup study``: methods times trials on one store, and the report about them."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NoReturn

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from estitchup_pl.errors import ConfigError, EstitchupError, did_you_mean
from estitchup_pl.report import missing_libraries, write_report
from estitchup_pl.study import StudyConfig, StudyFolder, run_study
from estitchup_pl.study.config import paper_methods
from estitchup_pl.study.tracking import check_wandb, track

_DESCRIPTION: Final = """\
Train several methods in several trials on one store, and write tables, figures and a report. Interrupted at any
point, the same command goes on where it stopped; with more methods or trials it runs what is missing.
"""

_UNKNOWN_OPTION: Final = re.compile(r"(?:[Uu]nrecognized arguments: --|[Oo]ption ')([\w.+-]+)")

_PRINTED_WIDTH: Final = 160

_STAGES: Final = {
    "selection": "choosing hyperparameters",
    "threshold": "finding thresholds",
    "final": "final fits",
}


def main(argv: list[str]) -> int:
    """Run ``estitchup study`` with the words after it; return the exit status 0.

    Raises:
        ConfigError: For a wrong call, or a configuration that does not fit the runs that are there.
        DataError: For a store or rows that cannot be used.
    """
    parser = study_parser()
    options = parser.parse_args(argv)
    try:
        arguments: dict[str, Any] = parser.instantiate(options).as_dict()
    except EstitchupError:
        raise
    except (ValueError, TypeError) as error:  # what a class says to its arguments
        raise ConfigError(str(error)) from error
    del arguments["config"]
    folder = StudyFolder(arguments.pop("out"))
    config = StudyConfig(**arguments)
    check_wandb(config.wandb)
    console = Console(stderr=True)
    if missing := missing_libraries():
        console.print(missing, highlight=False, markup=False)
    with _quiet_lightning(), _progress(console) as report:
        run_study(config, folder, report)
    _print_report(config, folder)
    return 0


def study_parser() -> ArgumentParser:
    """Parser of the command's options: those of :class:`StudyConfig`, and the folder."""
    parser = _Parser(prog="estitchup study", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with options; may be given several times")
    parser.add_argument("--out", type=Path, required=True, help="folder of the study; made if it is not there")
    parser.add_class_arguments(StudyConfig, as_group=False)
    # As they would stand in a file, so that --print_config can print them.
    parser.set_defaults(methods={name: asdict(method) for name, method in paper_methods().items()})
    return parser


class _Parser(ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ConfigError(message + _hint(message, self)) from ex


def _hint(message: str, parser: ArgumentParser) -> str:
    """Nearest name for an option that the parser does not know."""
    if "did you mean" in message or not (found := _UNKNOWN_OPTION.search(message)):
        return ""
    return did_you_mean(found[1], {name.lstrip("-") for name in parser._option_string_actions})


def _print_report(config: StudyConfig, folder: StudyFolder) -> None:
    paths = write_report(folder)
    console = Console()
    if not console.is_terminal:
        console.width = _PRINTED_WIDTH
    console.print(paths.tables)
    track(config, folder)
    print(f"report: {paths.html or paths.tables_markdown}")


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without what Lightning says about every single fit."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Callable[[str, int, int], Callable[[int], None]]]:
    """A bar for each stage on a terminal; a line for each stage elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bars = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
    began = time.monotonic()

    def report(stage: str, fits: int, epochs: int) -> Callable[[int], None]:
        text = f"{_STAGES[stage]}: {fits} {'fit' if fits == 1 else 'fits'} of {epochs} epochs"
        if not console.is_terminal:
            console.print(f"[{time.monotonic() - began:6.0f} s] {text}", highlight=False, markup=False)
        task = bars.add_task(text, total=fits * epochs)
        return lambda passed: bars.advance(task, passed)

    with bars:
        yield report

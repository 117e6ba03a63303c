"""``estitchup study``: methods times trials on one store, and the report about them."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from estitchup_pl.cli.parser import CommandParser
from estitchup_pl.cli.report import print_tables
from estitchup_pl.data import SplitProtocol, TrialSplit
from estitchup_pl.model import EmbeddingClassifier
from estitchup_pl.report import missing_libraries, write_report
from estitchup_pl.study import StudyConfig, StudyFolder, run_study
from estitchup_pl.study.methods import Model
from estitchup_pl.study.stage import Reporter, Stage
from estitchup_pl.study.tracking import track
from estitchup_pl.wording import counted

_DESCRIPTION: Final = """\
Train several methods in several trials on one store, and write tables, figures and a report. Interrupted at any
point, the same command goes on where it stopped; with more methods or trials it runs what is missing.
"""


def main(argv: list[str]) -> int:
    """Run ``estitchup study`` with the words after it; return the exit status 0.

    Raises:
        ConfigError: For a wrong call, or a configuration that does not fit the runs that are there.
        DataError: For a store or rows that cannot be used.
    """
    parser = study_parser()
    options = parser.parse_call(argv).as_dict()
    del options["config"]
    folder = StudyFolder(options.pop("out"))
    config = StudyConfig.from_plain(options)
    console = Console(stderr=True)
    if missing := missing_libraries():
        console.print(missing, highlight=False, markup=False)
    with quiet_lightning(), progress(console) as report:
        run_study(config, folder, report)
    _print_report(config, folder)
    return 0


def study_parser() -> CommandParser:
    """Parser of the command's options: those of :class:`StudyConfig`, and the folder."""
    parser = CommandParser(prog="estitchup study", description=_DESCRIPTION)
    parser.add_argument("--config", action="config", help="YAML file with options; may be given several times")
    parser.add_argument("--out", type=Path, required=True, help="folder of the study; made if it is not there")
    parser.add_class_arguments(StudyConfig, as_group=False, skip={"split", "model"})
    parser.add_argument(
        "--split", type=SplitProtocol, default=TrialSplit(), help="which rows train and which are evaluated"
    )
    parser.add_argument("--model", type=Model, default=EmbeddingClassifier, help="classifier of all methods")
    return parser


def _print_report(config: StudyConfig, folder: StudyFolder) -> None:
    paths = write_report(folder)
    print_tables(paths.tables)
    track(config, folder)
    print(f"report: {paths.html or paths.tables_markdown}")


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
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
def progress(console: Console) -> Iterator[Reporter]:
    """A bar for each stage on a terminal; a line for each stage elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bars = Progress(*columns, TimeRemainingColumn(), console=console)
    began = time.monotonic()

    def report(stage: Stage, fits: int, epochs: int) -> Callable[[int], None]:
        text = f"{stage.text}: {counted(fits, 'fit')} of {epochs} epochs"
        if not console.is_terminal:
            console.print(f"[{time.monotonic() - began:6.0f} s] {text}", highlight=False, markup=False)
            return lambda passed: None
        task = bars.add_task(text, total=fits * epochs)
        return lambda passed: bars.advance(task, passed)

    with bars if console.is_terminal else contextlib.nullcontext():
        yield report

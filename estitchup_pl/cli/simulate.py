"""``estitchup simulate``: rounds of labelling played through on labels that are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from estitchup_pl.cli.parser import CommandParser
from estitchup_pl.cli.report import WIDTH
from estitchup_pl.cli.study import quiet_lightning
from estitchup_pl.data import SplitProtocol, TrialSplit, open_store
from estitchup_pl.labeling import RoundsFolder, Simulation, payoffs
from estitchup_pl.labeling.payoff import Mean, Payoff, course_of
from estitchup_pl.locking import locked_folder
from estitchup_pl.model import EmbeddingClassifier
from estitchup_pl.report.text_table import MISSING, TextTable
from estitchup_pl.stopping import keeping
from estitchup_pl.store import read_header
from estitchup_pl.store.files import atomic_path
from estitchup_pl.study.methods import Model

_DESCRIPTION: Final = """\
Play rounds of labelling through on a store whose labels are known: every strategy begins with the same labels, is told
those that it asks for, and is measured on rows that are never asked for. Interrupted at any point, the same command
goes on where it stopped; with more trials it plays those that are missing.
"""


def main(argv: list[str]) -> int:
    """Run ``estitchup simulate`` with the words after it; return the exit status 0.

    Raises:
        ConfigError: For a wrong call, or a folder with the rounds of another simulation.
        DataError: For a store that has too few labels.
    """
    parser = simulate_parser()
    call = parser.parse_call(argv)
    options, out = parser.build(call), call.out
    store = open_store(options.pop("store"))
    simulation = Simulation(store, **{name: value for name, value in options.items() if name != "out"})
    played = {name: value for name, value in call.as_dict().items() if name not in ("config", "out", "trials")}
    console, rounds = Console(stderr=True), (simulation.rounds + 1) * simulation.trials
    kept = f"every round that had ended is kept in {out}; the same command goes on"
    with quiet_lightning(), locked_folder(out), keeping(lambda: kept):
        folder = RoundsFolder(out, {**played, "digests": read_header(store.path).digests if store.path else {}})
        ended = count(1)
        table = simulation.run(
            folder, lambda passed: console.print(f"round {next(ended)} of {rounds}", highlight=False)
        )
        tables = simulation_tables(table)
        _write(out, table, tables)
    screen = Console()
    screen.width = screen.width if screen.is_terminal else WIDTH
    for one in tables:
        screen.print(one.console())
    print(f"written: {out / 'rounds.parquet'}, {out / 'tables.md'}")
    return 0


def simulate_parser() -> CommandParser:
    """Parser of the command's options: those of :class:`~estitchup_pl.labeling.Simulation`, and the folder."""
    parser = CommandParser(prog="estitchup simulate", description=_DESCRIPTION)
    parser.add_argument("--config", action="config", help="YAML file with options; may be given several times")
    parser.add_argument("--out", type=Path, required=True, help="folder of the rounds; made if it is not there")
    parser.add_argument("--store", type=str | None, required=True, help="folder of a store, or digits")
    parser.add_class_arguments(Simulation, as_group=False, skip={"store", "split", "model"})
    parser.add_argument(
        "--split", type=SplitProtocol, default=TrialSplit(train_fraction=0.7), help="which rows may be asked for"
    )
    parser.add_argument("--model", type=Model, default=EmbeddingClassifier, help="classifier of each fit")
    return parser


def simulation_tables(table: pa.Table) -> list[TextTable]:
    """Tables about a simulation: accuracy and known classes after each round, and what choosing has brought."""
    accuracy = "Share of all test rows whose class is right, by the number of labels; mean over trials, 95 % interval."
    classes = "Classes that have a label, by the number of labels; mean over trials, 95 % interval."
    return [
        _course_table("accuracy", "Accuracy by labels", accuracy, course_of(table), digits=3),
        _course_table("classes", "Classes found by labels", classes, course_of(table, "classes"), digits=1),
        _payoff_table(payoffs(table)),
    ]


def _course_table(
    key: str, title: str, caption: str, courses: Mapping[str, Mapping[int, Mean]], digits: int
) -> TextTable:
    counts = sorted({labels for course in courses.values() for labels in course})
    rows = tuple((name, *(_shown(course[labels], digits) for labels in counts)) for name, course in courses.items())
    return TextTable(key, title, caption, ("Strategy", *map(str, counts)), rows)


def _payoff_table(found: Mapping[str, Payoff]) -> TextTable:
    columns = ("Strategy", "Accuracy", "Above random", "Classes", "More than random", "Labels", "Labels saved")
    digits = (3, 3, 1, 1, 0, 2)
    rows = tuple((name, *map(_shown, payoff, digits)) for name, payoff in found.items())
    caption = (
        "After the last round, mean over trials and 95 % interval; differences within each trial. Labels: how many a "
        "strategy needs for random's last accuracy, and the share that it saves of what random needs; none where it "
        "does not get there in every trial."
    )
    return TextTable("payoff", "Does choosing pay?", caption, columns, rows)


def _shown(mean: Mean, digits: int) -> str:
    if mean.value != mean.value:
        return MISSING
    half = "" if mean.half != mean.half else f" ± {mean.half:.{digits}f}"
    return f"{mean.value:.{digits}f}{half}"


def _write(out: Path, table: pa.Table, tables: Sequence[TextTable]) -> None:
    with atomic_path(out / "rounds.parquet") as temporary:
        pq.write_table(table, temporary)
    with atomic_path(out / "tables.md") as temporary:
        temporary.write_text("\n".join(one.markdown() for one in tables), encoding="utf-8")

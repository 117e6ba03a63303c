"""``estitchup label-errors``: labels that are likely wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from estitchup_pl.cli.parser import CommandParser
from estitchup_pl.data.datamodule import open_store
from estitchup_pl.errors import ConfigError, did_you_mean
from estitchup_pl.labeling.errors import OutOfFold, likely_errors
from estitchup_pl.labeling.export import TABLES, check_output, with_items, write_table
from estitchup_pl.study import StudyFolder

_DESCRIPTION: Final = """\
List the labels that are likely wrong (confident learning), from a study in which each row was evaluated once by a fit
that had not seen it: estitchup study --split FoldSplit --trials 5 --store DIR --out STUDY
"""


def main(argv: list[str]) -> int:
    """Run ``estitchup label-errors`` with the words after it; return the exit status 0.

    Raises:
        ConfigError: For a wrong call.
        DataError: For a folder that holds no finished study of folds.
    """
    call = label_errors_parser().parse_call(argv)
    check_output(Path(call.out), TABLES, call.overwrite)
    folder = StudyFolder(call.study)
    header = folder.header
    method = call.method or header["control"]
    if method not in header["methods"]:
        raise ConfigError(f"--method: the study has no {method!r}{did_you_mean(method, header['methods'])}")
    folds = list(_folds(folder, method, header["trials"]))
    found = likely_errors(folds)
    write_table(Path(call.out), with_items(found, open_store(header["config"]["store"])))
    rows = sum(len(fold.rows) for fold in folds)
    print(f"{found.num_rows} of {rows:,} labels are likely wrong, by {method}")
    print(f"written: {call.out}")
    return 0


def label_errors_parser() -> CommandParser:
    """Parser of the command's options."""
    parser = CommandParser(prog="estitchup label-errors", description=_DESCRIPTION)
    parser.add_argument("study", metavar="STUDY", help="folder of the study, what --out named")
    parser.add_argument("--method", metavar="NAME", help="method whose predictions are used (default: the control)")
    parser.add_argument("--out", metavar="FILE", required=True, help="file to write: .csv or .parquet")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    return parser


def _folds(folder: StudyFolder, method: str, trials: list[int]) -> Iterator[OutOfFold]:
    for trial in trials:
        found = folder.predictions(method, trial)
        yield OutOfFold(found.rows, found.labels, found.probabilities, found.class_names)

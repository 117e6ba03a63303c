"""``estitchup report``: draw the tables, figures and page of a study again."""

from __future__ import annotations

import sys
from typing import Final

from rich.console import Console

from estitchup_pl.cli.parser import CommandParser
from estitchup_pl.errors import DataError
from estitchup_pl.report import StudyTables, missing_libraries, write_report
from estitchup_pl.study.folder import StudyFolder

_DESCRIPTION: Final = """\
Draw the report of a study again, from its results and predictions: tables.md, tables.json, figures/*.png and
report.html, a page that opens from disk. Figures and page need the extra `report`, tables do not.
"""


WIDTH: Final = 160
"""Columns of a table where no terminal limits them."""


def main(argv: list[str]) -> int:
    """Run ``estitchup report`` with the words after it; return the exit status 0.

    Raises:
        ConfigError: For a wrong call, or a folder of pictures that is not there.
        DataError: For a folder that holds no finished study.
    """
    arguments = report_parser().parse_call(argv)
    try:
        report = write_report(StudyFolder(arguments.study), arguments.root)
    except OSError as error:
        raise DataError(f"{error.filename or arguments.study}: {error.strerror or error}") from error
    if not arguments.quiet:
        print_tables(report.tables)
    if missing := missing_libraries():
        print(missing, file=sys.stderr)
    print(report.html or report.tables_markdown)
    return 0


def report_parser() -> CommandParser:
    """Parser of the command's options."""
    parser = CommandParser(prog="estitchup report", description=_DESCRIPTION)
    parser.add_argument("study", metavar="DIR", help="folder of the study, what --out named")
    parser.add_argument("--root", metavar="DIR", default=".", help="folder or zip file of the items' pictures")
    parser.add_argument("--quiet", action="store_true", help="do not print the tables")
    return parser


def print_tables(tables: StudyTables) -> None:
    """Print tables, as wide as they are where no terminal limits them."""
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    console.print(tables)

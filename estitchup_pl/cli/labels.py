"""``estitchup labels``: what people answered, into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from estitchup_pl.cli.parser import CommandParser
from estitchup_pl.errors import ConfigError
from estitchup_pl.labeling.answers import compare_answers, read_table
from estitchup_pl.labeling.label_studio import read_export
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.label_history import apply_labels, label_history, undo

_DESCRIPTION: Final = """\
Take answers of people into the labels of a store: an export of Label Studio (.json), or a table (.csv, .parquet,
.jsonl). Says what would change; with --apply it does, and --undo takes the last change back.
"""


def main(argv: list[str]) -> int:
    """Run ``estitchup labels`` with the words after it; return the exit status 0.

    Raises:
        ConfigError: For a wrong call.
        DataError: For a store or a file that cannot be read, or nothing that could change.
    """
    call = labels_parser().parse_call(argv)
    path = Path(call.store)
    if sum([call.answers is not None, call.undo, call.history]) != 1:
        raise ConfigError("expected a file of answers, --undo or --history")
    if call.history:
        print("\n".join(map(str, label_history(path))) or "no change of labels yet")
    elif call.undo:
        print(undo(path))
    else:
        _take_answers(path, Path(call.answers), call.id, call.label, call.apply)
    return 0


def _take_answers(path: Path, file: Path, id_column: str, label_column: str, apply: bool) -> None:
    answers = read_export(file, id_column) if file.suffix == ".json" else read_table(file, id_column, label_column)
    changes = compare_answers(EmbeddingStore.open(path), answers)
    print(changes)
    if not apply:
        print("nothing was written; --apply does it" if changes.labels else "nothing to write")
    elif changes.labels:
        print(f"written as change {apply_labels(path, changes.labels, str(file)).number}; --undo takes it back")


def labels_parser() -> CommandParser:
    """Parser of the command's options."""
    parser = CommandParser(prog="estitchup labels", description=_DESCRIPTION)
    parser.add_argument("store", metavar="STORE", help="folder of the store")
    parser.add_argument("answers", metavar="ANSWERS", nargs="?", help="file of answers")
    parser.add_argument("--id", metavar="COLUMN", default="id", help="what names an item in the answers")
    parser.add_argument("--label", metavar="COLUMN", default="label", help="column of the class in a table")
    parser.add_argument("--apply", action="store_true", help="write the changes")
    parser.add_argument("--undo", action="store_true", help="take the last change back")
    parser.add_argument("--history", action="store_true", help="list the changes so far")
    return parser

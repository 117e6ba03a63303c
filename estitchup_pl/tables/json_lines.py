"""JSON lines: one object a line, values as they are written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa

from estitchup_pl.errors import DataError
from estitchup_pl.tables.reader import BATCH_ROWS, kept_columns
from estitchup_pl.tables.text import HALF_CHARACTER, is_decoded, open_text, parse_json

_UNLIKE: Final = (pa.ArrowException, OverflowError)
_ESCAPED_HALF: Final = re.compile(r"\\u[dD][89a-fA-F]")


class _Line(NamedTuple):
    where: str
    text: str
    row: dict[str, Any]


def read_json_lines(path: Path, encoding: str, drop: Collection[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file of JSON lines, which is read twice: columns and types may show up in any line.

    A column of numbers is one of numbers, a column of mixed values (7 and "007") text as written. What a line
    does not say is null.

    Raises:
        ConfigError: If a column to drop is not there.
        DataError: For what is no such file, naming the line; and for an object that names a column twice.
    """
    types: dict[str, pa.DataType] = {}
    for lines in _batches_of_lines(path, encoding, drop):
        for name in dict.fromkeys(name for line in lines for name in line.row):
            known = types.get(name, pa.null())
            types[name] = known if name in drop else _merged(known, lines, name)
    kept = [list(types)[at] for at in kept_columns(list(types), drop, path)]
    for lines in _batches_of_lines(path, encoding, drop):
        columns = [_column(lines, name, types[name]) for name in kept]
        yield pa.RecordBatch.from_arrays(columns, kept)


def _batches_of_lines(path: Path, encoding: str, drop: Collection[str]) -> Iterator[list[_Line]]:
    with open_text(path, encoding) as file:
        numbered = enumerate(file, start=1)
        full = ((f"{path}, line {number}", text) for number, text in numbered if text.strip())
        while some := list(islice(full, BATCH_ROWS)):
            yield [_parsed(where, text, encoding, drop) for where, text in some]


def _parsed(where: str, text: str, encoding: str, drop: Collection[str]) -> _Line:
    if not is_decoded(text):
        raise DataError(f"{where}: not text in {encoding}. Save the file as UTF-8, or set encoding.")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            _refuse_repeated([name for name, _ in pairs if name not in drop], where)
        return entries

    row = parse_json(text, where, object_pairs_hook=unique)
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object {{...}} in each line, got {type(row).__name__}")
    if _ESCAPED_HALF.search(text):
        _refuse_half_characters({name: value for name, value in row.items() if name not in drop}, where)
    return _Line(where, text, row)


def _merged(known: pa.DataType, lines: Sequence[_Line], name: str) -> pa.DataType:
    """Type that a column has by now; text for single values of unlike types."""
    values = [line.row.get(name) for line in lines]
    try:
        return _common(known, values)
    except _UNLIKE as error:
        if not pa.types.is_nested(known) and not any(isinstance(value, (list, dict)) for value in values):
            return pa.string()
        raise _refusal(lines, name, lambda at: _common(known, values[: at + 1])) from error


def _common(known: pa.DataType, values: Sequence[Any]) -> pa.DataType:
    schemas = [pa.schema({"": kind}) for kind in (known, pa.array(values).type)]
    return pa.unify_schemas(schemas, promote_options="permissive").field(0).type


def _column(lines: Sequence[_Line], name: str, kind: pa.DataType) -> pa.Array:
    values = [line.row.get(name) for line in lines]
    if pa.types.is_string(kind):
        values = [
            value if value is None or isinstance(value, str) else _as_written(line, name)
            for value, line in zip(values, lines, strict=True)
        ]
    try:
        return pa.array(values, kind)
    except _UNLIKE as error:
        raise _refusal(lines, name, lambda at: pa.array([values[at]], kind)) from error


def _as_written(line: _Line, name: str) -> str:
    """Text of a number or truth value."""
    value = parse_json(line.text, line.where, parse_int=str, parse_float=str, parse_constant=str)[name]
    return value if isinstance(value, str) else str(value).lower()


def _refusal(lines: Sequence[_Line], name: str, fits: Callable[[int], object]) -> DataError:
    """Name the first line whose value does not fit."""
    for at, line in enumerate(lines):
        try:
            fits(at)
        except _UNLIKE as error:
            return DataError(
                f"{line.where}, column {name!r}: its value does not fit those of the other lines ({error}). "
                "Write all of them in one way, or leave the column out (drop)."
            )
    raise AssertionError("called for lines that fit")


def _refuse_repeated(names: list[str], where: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{where}: {name!r} is there more than once in one object")


def _refuse_half_characters(row: dict[str, Any], where: str) -> None:
    for name, value in row.items():
        if found := HALF_CHARACTER.search(json.dumps({name: value}, ensure_ascii=False)):
            raise DataError(
                f"{where}, column {name!a}: {found[0]!a} is half a character, which no text can hold. "
                "Remove it, or write the whole character."
            )

"""CSV and TSV files: every column is text."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.csv

from estitchup_pl.errors import DataError
from estitchup_pl.store.items import UNTYPED
from estitchup_pl.tables.reader import kept_columns
from estitchup_pl.tables.text import is_decoded, open_bytes, open_text

_BLOCK_BYTES: Final = 8 << 20
"""Size of the blocks that are read, and the longest row."""


def read_csv(path: Path, delimiter: str, encoding: str, drop: Collection[str]) -> Iterator[pa.RecordBatch]:
    r"""Yield the rows of a CSV file.

    Every column is text as written: ``007`` stays ``007``. An empty field is null, and a quoted one, ``""``, an
    empty text.

    Raises:
        ConfigError: If a column to drop is not there.
        DataError: For what is no such file, naming the line; and for a header that names a column twice.
    """
    parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    read = pa.csv.ReadOptions(encoding=encoding, block_size=_BLOCK_BYTES)
    last = None
    try:
        with open_bytes(path) as file, pa.csv.open_csv(file, read, parse) as first:
            names = first.schema.names
        kept = kept_columns(names, drop, path)
        convert = pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        with open_bytes(path) as file, pa.csv.open_csv(file, read, parse, convert) as reader:
            for batch in reader:
                last = batch.slice(batch.num_rows - 1) if batch.num_rows else last
                yield batch.select(kept).replace_schema_metadata(UNTYPED)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(_explain(path, delimiter, encoding, error)) from error
    if last is not None and "\n" in (last.column(last.num_columns - 1)[0].as_py() or ""):
        _refuse_open_quote(path)


def _explain(path: Path, delimiter: str, encoding: str, error: Exception) -> str:
    """Say in which line a file that Arrow refuses is wrong."""
    with open_text(path, encoding) as text:
        rows = csv.reader(text, delimiter=delimiter)
        width, line = 0, 1
        try:
            for fields in rows:
                if not all(map(is_decoded, fields)):
                    return f"{path}, line {line}: not text in {encoding}. Save the file as UTF-8, or set encoding."
                width = width or len(fields)
                if fields and len(fields) != width:
                    return f"{path}, line {line}: expected {width} fields, got {len(fields)}"
                line = rows.line_num + 1
        except csv.Error:
            return f"{path}, line {line}: a field without an end; is a quotation mark never closed?"
        except UnicodeError:  # an encoding whose errors have no place
            pass
    return f"{path}: cannot be read as csv in {encoding} ({error})"


def _refuse_open_quote(path: Path) -> None:
    """Look for the end of a last field that runs over several lines: it needs a quotation mark there."""
    tail = b""
    with open_bytes(path) as file:
        while block := file.read(_BLOCK_BYTES):
            tail = (tail + block)[-8:]
    if not tail.rstrip(b"\r\n\0").endswith(b'"'):
        raise DataError(f"{path}: its last row has a field without an end; is a quotation mark never closed?")

"""The kinds of file that predictions are written to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq


class BatchWriter(Protocol):
    """Writes record batches to a file, as writers of pyarrow do."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: Any) -> None: ...

    def write_batch(self, batch: pa.RecordBatch, /) -> None:
        """Append a batch."""
        ...


class CsvWriter:
    """Writes record batches as CSV, with a line of names.

    Args:
        path: The file.
        schema: Columns of the batches, as :func:`flat_columns` takes them.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        self._writer: pa.csv.CSVWriter | None = None
        self._nothing = schema.empty_table().to_batches() or [pa.RecordBatch.from_pylist([], schema=schema)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        if self._writer is None and error is None:
            self.write_batch(self._nothing[0])
        if self._writer is not None:
            self._writer.close()

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Append a batch."""
        flat = flat_columns(batch)
        if self._writer is None:
            self._writer = pa.csv.CSVWriter(self._path, flat.schema, write_options=_OPTIONS)
        self._writer.write_batch(flat)


WRITERS: Final[dict[str, Callable[[Path, pa.Schema], BatchWriter]]] = {".parquet": pq.ParquetWriter, ".csv": CsvWriter}
"""By the end of a file's name, what writes it."""

_OPTIONS: Final = pa.csv.WriteOptions(quoting_style="needed")


def flat_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Make of each column of lists of one length as many columns, numbered from 1, and of other lists JSON.

    Example:
        >>> top = pa.array([["shoe", "hat"]], pa.list_(pa.string(), 2))
        >>> flat_columns(pa.RecordBatch.from_pydict({"top": top, "set": [["hat"]]})).to_pylist()
        [{'top_1': 'shoe', 'top_2': 'hat', 'set': '["hat"]'}]
    """
    columns: dict[str, pa.Array] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_fixed_size_list(column.type):
            columns |= {f"{name}_{place + 1}": pc.list_element(column, place) for place in range(column.type.list_size)}
        elif pa.types.is_list(column.type):
            cells = (None if cell is None else json.dumps(cell, ensure_ascii=False) for cell in column.to_pylist())
            columns[name] = pa.array(cells, pa.string())
        else:
            columns[name] = column
    return pa.RecordBatch.from_pydict(columns)


def fixed_lists(schema: pa.Schema, widths: Mapping[str, int]) -> pa.Schema:
    """The schema with lists of one length in the columns that have one."""
    for name, width in widths.items():
        at = schema.get_field_index(name)
        schema = schema.set(at, pa.field(name, pa.list_(schema.field(at).type.value_type, width)))
    return schema

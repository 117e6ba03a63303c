"""The kinds of file that predictions are written to."""

from __future__ import annotations

from collections.abc import Callable
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
    """Writes record batches as CSV: each list as columns of its own, with a line of names.

    Args:
        path: The file.
        schema: Columns of the batches; lists have one length in all rows.
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
    """Make of each column of lists, all of one length, as many columns, numbered from 1.

    Example:
        >>> flat_columns(pa.RecordBatch.from_pydict({"id": ["a"], "top": [["shoe", "hat"]]})).to_pylist()
        [{'id': 'a', 'top_1': 'shoe', 'top_2': 'hat'}]
    """
    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if not pa.types.is_list(column.type):
            columns[name] = column
            continue
        for place in range(len(column.flatten()) // max(len(column), 1)):
            columns[f"{name}_{place + 1}"] = pc.list_element(column, place)
    return pa.RecordBatch.from_pydict(columns)

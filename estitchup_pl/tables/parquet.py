"""Parquet files, and folders of them: items, and embeddings in columns of lists."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from estitchup_pl.errors import DataError, StoreError
from estitchup_pl.store import name_hint
from estitchup_pl.store.blocks import block_rows
from estitchup_pl.store.files import DAMAGE
from estitchup_pl.tables.lists import check_list_type, first_length, list_rows
from estitchup_pl.tables.reader import BATCH_ROWS, kept_columns
from estitchup_pl.tables.streams import StreamedRows


class ParquetParts:
    """Parquet files as one table, one after the other.

    A column has the type that holds what all files have in it; where a file lacks the column it is null.

    Args:
        path: A file; or a folder, whose ``.parquet`` files are read in the order of their names.
        files: These files instead, in this order.
        drop: Columns to leave out.
        only: Columns to read; all others by default.

    Attributes:
        files: The files.
        rows: Rows of each file.
        names: Names of all columns that are there.
        schema: Names and types of those that are read.

    Raises:
        ConfigError: If a column to drop is not there.
        DataError: If a file cannot be read, or its columns do not continue those of the files before.
    """

    def __init__(
        self,
        path: Path,
        files: Sequence[Path] = (),
        *,
        drop: Collection[str] = (),
        only: Collection[str] | None = None,
    ) -> None:
        self.files = list(files) or (sorted(path.rglob("*.parquet")) if path.is_dir() else [path])
        if not self.files:
            raise DataError(f"{path}: a folder without any .parquet file")
        self.rows: list[int] = []
        self.schema, schemas = pa.schema([]), []
        for file in self.files:
            with _opened(file) as opened:
                schemas.append(opened.schema_arrow)
                self.rows.append(int(opened.metadata.num_rows))
        self.names = list(dict.fromkeys(name for schema in schemas for name in schema.names))
        left_out = {*drop} if only is None else {*self.names} - {*only}
        kept_columns(self.names, left_out, path)
        for file, schema in zip(self.files, schemas, strict=True):
            kept = [schema.field(at) for at in kept_columns(schema.names, left_out & {*schema.names}, file)]
            self.schema = _continued(self.schema, [field.with_type(_plain(field.type)) for field in kept], file)

    def batches(self, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Yield all rows, in batches of at most ``rows``.

        Raises:
            DataError: If a file is damaged.
        """
        for index in range(len(self.files)):
            yield from self.batches_of(index, rows)

    def batches_of(self, index: int, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Yield the rows of one file, as :meth:`batches` does."""
        path, done = self.files[index], 0
        with _opened(path) as file:
            here = [name for name in self.schema.names if name in file.schema_arrow.names]
            try:
                for batch in file.iter_batches(rows, columns=here):
                    batch.validate(full=True)  # texts are text, and lists end within their values
                    yield _fitted(batch, self.schema)
                    done += batch.num_rows
            except DAMAGE as error:
                after = f"after row {done - 1}" if done else "in its first rows"
                raise DataError(f"{path}: damaged {after} ({error}). Copy the file again.") from error


def open_parquet_column(path: Path | str, column: str) -> StreamedRows:
    """Stream a column of lists of floats, of a parquet file or a folder of them.

    A null or empty list becomes a row of zeros.

    Raises:
        DataError: For an unreadable file.
        StoreError: For an unknown column (nearest name offered), another type of column, or lists of different
            lengths.
    """
    parts, where = ParquetParts(Path(path), only=[column]), f"{path}:{column}"
    if column not in parts.names:
        raise StoreError(f"{path}: no column {column!r}{name_hint(column, parts.names)}")
    kind = parts.schema.field(column).type
    dtype = check_list_type(kind, where)
    dim = first_length(kind, (batch.column(0) for batch in parts.batches(256)), where)
    return StreamedRows((sum(parts.rows), dim), dtype, partial(_blocks, parts, column, dim, dtype), where)


def _blocks(parts: ParquetParts, column: str, dim: int, dtype: np.dtype[Any]) -> Iterator[npt.NDArray[Any]]:
    for index, path in enumerate(parts.files):
        first = 0
        for batch in parts.batches_of(index, block_rows(dim, dtype)):
            yield list_rows(batch.column(0), dim, f"{path}:{column}", first)
            first += batch.num_rows


def _opened(path: Path) -> pq.ParquetFile:
    try:  # without pre-buffering: it would read a file as a whole, ahead of what is asked for
        file = pq.ParquetFile(path, pre_buffer=False)
        _ = file.schema_arrow.names  # of a damaged file they may be no text
    except DAMAGE as error:
        raise DataError(f"{path}: cannot be read as parquet ({error})") from error
    return file


def _continued(schema: pa.Schema, fields: Sequence[pa.Field], file: Path) -> pa.Schema:
    try:
        return pa.unify_schemas([schema, pa.schema(fields)], promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(f"{file}: its columns do not continue those of the files before it ({error})") from error


def _fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = []
    for field in schema:
        at = batch.schema.get_field_index(field.name)
        column = batch.column(at) if at >= 0 else pa.nulls(batch.num_rows, field.type)
        column = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema.names)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind

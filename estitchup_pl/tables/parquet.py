"""Embeddings in parquet columns of lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from estitchup_pl.errors import StoreError
from estitchup_pl.store import name_hint
from estitchup_pl.store.sources import block_rows
from estitchup_pl.tables.lists import check_list_type, list_rows
from estitchup_pl.tables.streams import StreamedRows


def open_parquet_column(path: Path | str, column: str) -> StreamedRows:
    """Stream a parquet column of lists of floats; a null list becomes a row of zeros.

    Raises:
        StoreError: For an unreadable file, an unknown column (nearest name offered), another type of column, or
            lists of different lengths.
    """
    path = Path(path)
    where = f"{path}:{column}"
    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            if column not in schema.names:
                raise StoreError(f"{path}: no column {column!r}{name_hint(column, schema.names)}")
            dtype = check_list_type(schema.field(column).type, where)
            dim = _list_length(file, column, where)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path}: cannot be read as parquet ({error})") from error
    return StreamedRows((rows, dim), dtype, lambda: _parquet_blocks(path, column, dim, dtype, where), where)


def _list_length(file: pq.ParquetFile, column: str, where: str) -> int:
    kind = file.schema_arrow.field(column).type
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    for batch in file.iter_batches(batch_size=256, columns=[column]):
        lengths = pc.drop_null(pc.list_value_length(batch.column(0)))
        if len(lengths):
            return int(lengths[0].as_py())
    raise StoreError(f"{where}: every row is null; expected lists of floats")


def _parquet_blocks(path: Path, column: str, dim: int, dtype: np.dtype[Any], where: str) -> Iterator[npt.NDArray[Any]]:
    first = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=block_rows(dim, dtype), columns=[column]):
                yield list_rows(batch.column(0), dim, where, first)
                first += len(batch)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{where}: damaged after row {first - 1} ({error})") from error

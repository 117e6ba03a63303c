"""Embeddings named by a file, and where it holds several, by a name in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from estitchup_pl.errors import StoreError
from estitchup_pl.store import RowSource
from estitchup_pl.tables.numpy_files import NpyFile, open_npz
from estitchup_pl.tables.parquet import open_parquet_column

_FILE_AND_NAME: Final = re.compile(r"(?P<file>.+?\.(?:npy|npz|parquet|pq))(?::(?P<name>.+))?", re.IGNORECASE)
_EXPECTED: Final = "expected FILE.npy, FILE.npz[:NAME], FILE.parquet:COLUMN, or FOLDER:COLUMN of parquet files"


def split_place(place: str) -> tuple[Path, str | None]:
    """Take ``FILE[:NAME]`` apart.

    Raises:
        StoreError: If the file is of no kind that holds embeddings.

    Example:
        >>> split_place("C:/data/items.parquet:title_embedding")[1]
        'title_embedding'
    """
    folder, _, column = place.rpartition(":")
    if folder and Path(folder).is_dir():
        return Path(folder), column
    match = _FILE_AND_NAME.fullmatch(place)
    if match is None:
        raise StoreError(f"{place}: {_EXPECTED}")
    return Path(match["file"]), match["name"]


def columns_within(path: str | Path, places: Iterable[str]) -> set[str]:
    """Columns of a table that are embeddings themselves, by places that :func:`open_embeddings` takes."""
    path, named = Path(path), map(split_place, places)
    return {column for file, column in named if column and path.exists() and file.samefile(path)}


def open_embeddings(place: str) -> RowSource:
    """Open ``FILE.npy``, ``FILE.npz[:NAME]``, ``FILE.parquet:COLUMN`` or ``FOLDER:COLUMN`` of parquet files.

    Raises:
        StoreError: If there is no such file or name, or it holds no embeddings.
        DataError: If a parquet file cannot be read.
    """
    path, name = split_place(place)
    if not path.exists():
        raise StoreError(f"{path}: there is no such file")
    kind = ".parquet" if path.is_dir() else path.suffix.lower()
    if kind == ".npz":
        return open_npz(path, name)
    if kind == ".npy" and name is None:
        return NpyFile(path)
    if kind in (".parquet", ".pq") and name:
        return open_parquet_column(path, name)
    raise StoreError(f"{place}: {_EXPECTED}")

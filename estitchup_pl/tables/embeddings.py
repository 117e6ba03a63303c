"""Embeddings named by a file, and where it holds several, by a name in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from estitchup_pl.errors import StoreError
from estitchup_pl.store import RowSource
from estitchup_pl.tables.numpy_files import NpyFile, open_npz
from estitchup_pl.tables.parquet import open_parquet_column

_FILE_AND_NAME: Final = re.compile(r"(?P<file>.+?\.(?:npy|npz|parquet))(?::(?P<name>.+))?")


def split_place(place: str) -> tuple[Path, str | None]:
    """Take ``FILE[:NAME]`` apart.

    Raises:
        StoreError: If the file is of no kind that holds embeddings.

    Example:
        >>> split_place("C:/data/items.parquet:title_embedding")[1]
        'title_embedding'
    """
    match = _FILE_AND_NAME.fullmatch(place)
    if match is None:
        raise StoreError(f"{place}: expected FILE.npy, FILE.npz[:NAME] or FILE.parquet:COLUMN")
    return Path(match["file"]), match["name"]


def open_embeddings(place: str) -> RowSource:
    """Open ``FILE.npy``, ``FILE.npz[:NAME]`` or ``FILE.parquet:COLUMN``.

    Raises:
        StoreError: If there is no such file or name, or it holds no embeddings.
    """
    path, name = split_place(place)
    if not path.is_file():
        raise StoreError(f"{path}: there is no such file")
    if path.suffix == ".npz":
        return open_npz(path, name)
    if path.suffix == ".npy" and name is None:
        return NpyFile(path)
    if path.suffix == ".parquet" and name is not None:
        return open_parquet_column(path, name)
    raise StoreError(f"{place}: expected FILE.npy, FILE.npz[:NAME] or FILE.parquet:COLUMN")

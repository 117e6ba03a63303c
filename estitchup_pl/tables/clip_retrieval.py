"""Folders of embeddings that clip-retrieval writes."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

import pyarrow as pa

from estitchup_pl.errors import StoreError
from estitchup_pl.store import RowSource
from estitchup_pl.tables.imported import Imported
from estitchup_pl.tables.numpy_files import ConcatenatedRows, NpyFile
from estitchup_pl.tables.parquet import ParquetParts

_CLIP_FOLDERS: Final = {"image": "img_emb", "text": "text_emb"}


def open_clip_retrieval(folder: Path | str, *, drop: Collection[str] = ()) -> Imported:
    """Open what ``clip-retrieval inference`` wrote: modalities ``image`` and ``text``, where they are there.

    The folder holds the same parts, by number, in ``img_emb/img_emb_*.npy``, ``text_emb/text_emb_*.npy`` and
    ``metadata/metadata_*.parquet``; these become one table, in the order of their numbers.

    Args:
        folder: The folder.
        drop: Columns of the table to leave out.

    Raises:
        ConfigError: If a column to drop is not there.
        DataError: If a parquet file cannot be read.
        StoreError: If there are no parts, or the parts do not fit together.
    """
    folder = Path(folder)
    metadata = _parts(folder, "metadata", "parquet")
    parts = {name: _parts(folder, prefix, "npy") for name, prefix in _CLIP_FOLDERS.items()}
    parts = {name: found for name, found in parts.items() if found}
    if not metadata or not parts:
        raise StoreError(
            f"{folder}: expected a clip-retrieval folder, with metadata/metadata_*.parquet and img_emb/img_emb_*.npy "
            "or text_emb/text_emb_*.npy"
        )
    table = ParquetParts(folder / "metadata", list(metadata.values()), drop=drop)
    rows = dict(zip(metadata, table.rows, strict=True))
    embeddings: dict[str, RowSource] = {}
    for name, found in parts.items():
        if found.keys() != metadata.keys():
            odd = min(found.keys() ^ metadata.keys())
            raise StoreError(f"{folder}: part {odd} is in only one of {_CLIP_FOLDERS[name]}/ and metadata/")
        files = {number: NpyFile(path) for number, path in found.items()}
        for number, file in files.items():
            if file.shape[:1] != (rows[number],):
                raise StoreError(
                    f"{file.path}: shape {file.shape}, but {metadata[number]} has {rows[number]} rows; "
                    "row i of one must belong to row i of the other"
                )
        embeddings[name] = ConcatenatedRows(list(files.values()))
    return Imported(pa.Table.from_batches(list(table.batches()), table.schema), embeddings)


def _parts(folder: Path, prefix: str, ending: str) -> dict[int, Path]:
    """Files ``<prefix>/<prefix>_<number>.<ending>`` by number, ascending."""
    pattern = re.compile(rf"{prefix}_(\d+)\.{ending}")
    matches = ((pattern.fullmatch(path.name), path) for path in (folder / prefix).glob(f"{prefix}_*.{ending}"))
    return dict(sorted((int(match[1]), path) for match, path in matches if match))

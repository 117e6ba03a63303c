"""Files of a store beside its header: item table and shards, each written whole or not at all.

These are the building blocks of every writer of stores.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from estitchup_pl.errors import StoreError

ITEMS_NAME: Final = "items.parquet"
EMBEDDINGS_NAME: Final = "embeddings"
TEMPORARY_SUFFIX: Final = ".tmp"
DTYPES: Final = ("float16", "float32")
DAMAGE: Final = (OSError, pa.ArrowException, ValueError, KeyError, TypeError)
"""What pyarrow raises for a file that is damaged or not there."""


def shard_path(root: Path, modality: str, index: int) -> Path:
    """Path of one shard.

    Example:
        >>> shard_path(Path("products"), "title", 3).as_posix()
        'products/embeddings/title/00003.npy'
    """
    return Path(root) / EMBEDDINGS_NAME / modality / f"{index:05d}.npy"


def write_shard(root: Path, modality: str, index: int, array: npt.NDArray[Any]) -> None:
    """Write one shard ``(rows, dim)``: under a temporary name, flushed to the disk, then renamed.

    Raises:
        StoreError: If the array is not two-dimensional float16 or float32.
    """
    if array.ndim != 2 or array.dtype.name not in DTYPES:
        raise StoreError(
            f"shard {index} of modality {modality!r}: expected (rows, dim) of float16 or float32, "
            f"got shape {array.shape} of {array.dtype}"
        )
    write_npy(shard_path(root, modality, index), array.shape, array.dtype.name, [array])


def write_npy(path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike, blocks: Iterable[npt.NDArray[Any]]) -> None:
    """Write an array that comes in blocks of rows as one NPY version 1 file, whole or not at all."""
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": tuple(int(size) for size in shape),
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=dtype).view(np.uint8).data)


def write_items(root: Path, table: pa.Table) -> None:
    """Write ``items.parquet``, whole or not at all."""
    with atomic_path(Path(root) / ITEMS_NAME) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=1 << 17)


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a parquet file of a store to its end, with every value checked.

    Raises:
        StoreError: If it is damaged or not there.
    """
    try:
        table = pq.read_table(path, columns=columns)
        table.validate(full=True)  # texts are text, and lists end within their values
        if columns is not None and (missing := [name for name in columns if name not in table.column_names]):
            raise ValueError(f"it has no column {missing[0]!r}")
    except DAMAGE as error:
        raise StoreError(f"{path}: cannot be read ({error}). Restore the file from a copy.") from error
    return table


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; rename it when the body ends well, remove it otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        yield temporary
        flush_to_disk(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_to_disk(path.parent)


def flush_to_disk(path: Path) -> None:
    """Make a file's content, or the names in a folder, outlast a power cut."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

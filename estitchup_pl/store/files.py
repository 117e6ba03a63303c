"""Files of a store beside its header: item table and shards, each written whole or not at all, and its digest.

These are the building blocks of every writer of stores.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from typing_extensions import Buffer, override

from estitchup_pl.errors import StoreError, WriteError

ITEMS_NAME: Final = "items.parquet"
EMBEDDINGS_NAME: Final = "embeddings"
FAILURES_NAME: Final = "failures.parquet"
"""What ``estitchup embed`` lists there: the values that it could not embed, and why."""

TEMPORARY_SUFFIX: Final = ".tmp"
DTYPES: Final = ("float16", "float32")
DAMAGE: Final = (OSError, pa.ArrowException, ValueError, KeyError, TypeError)
"""What pyarrow raises for a file that is damaged or not there."""

_CHUNK_BYTES: Final = 1 << 20
"""Bytes that are digested at a time."""

CANNOT_WRITE: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""What only writing gives: a full disk, a quota, a file as large as may be, a read-only disk."""


def shard_path(root: Path, modality: str, index: int) -> Path:
    """Path of one shard.

    Example:
        >>> shard_path(Path("products"), "title", 3).as_posix()
        'products/embeddings/title/00003.npy'
    """
    return Path(root) / shard_name(modality, index)


def shard_name(modality: str, index: int) -> str:
    """Name of one shard relative to the store's folder, as the header's digests have it.

    Example:
        >>> shard_name("title", 3)
        'embeddings/title/00003.npy'
    """
    return f"{EMBEDDINGS_NAME}/{modality}/{index:05d}.npy"


def digest_file(path: Path) -> str:
    """Digest of a file's bytes, 32 hexadecimal digits of XXH3-128.

    It is there to notice damage, and takes less time than reading the file does; it is no signature.
    """
    digest = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


class DigestingWriter(io.BufferedWriter):
    """A new file that is digested on its way to the disk.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "wb"))
        self._digest = xxhash.xxh3_128()

    @override
    def write(self, content: Buffer, /) -> int:
        self._digest.update(content)
        return super().write(content)

    @property
    def digest(self) -> str:
        """Digest of what has been written so far, as :func:`digest_file` gives it."""
        return self._digest.hexdigest()


def write_shard(root: Path, modality: str, index: int, array: npt.NDArray[Any]) -> str:
    """Write one shard ``(rows, dim)``: under a temporary name, flushed to the disk, then renamed; return its digest.

    Raises:
        StoreError: If the array is not two-dimensional float16 or float32.
        WriteError: If the disk is full or read-only.
    """
    if array.ndim != 2 or array.dtype.name not in DTYPES:
        raise StoreError(
            f"shard {index} of modality {modality!r}: expected (rows, dim) of float16 or float32, "
            f"got shape {array.shape} of {array.dtype}"
        )
    return write_npy(shard_path(root, modality, index), array.shape, array.dtype.name, [array])


def write_npy(path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike, blocks: Iterable[npt.NDArray[Any]]) -> str:
    """Write an array that comes in blocks of rows as one NPY version 1 file, whole or not at all; return its digest."""
    with atomic_path(path) as temporary, DigestingWriter(temporary) as file:
        file.write(npy_header(shape, dtype))
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=dtype).view(np.uint8).data)
        return file.digest


def npy_header(shape: tuple[int, ...], dtype: npt.DTypeLike) -> bytes:
    """What an NPY version 1 file begins with."""
    header = io.BytesIO()
    facts = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": tuple(int(size) for size in shape),
    }
    np.lib.format.write_array_header_1_0(header, facts)
    return header.getvalue()


def digest_shard(array: npt.NDArray[Any]) -> str:
    """Digest that :func:`write_shard` returns for a shard ``(rows, dim)``, before it is written."""
    digest = xxhash.xxh3_128(npy_header(array.shape, array.dtype))
    digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def write_items(root: Path, table: pa.Table) -> str:
    """Write ``items.parquet``, whole or not at all and with checksums of its pages; return its digest."""
    with atomic_path(Path(root) / ITEMS_NAME) as temporary, DigestingWriter(temporary) as file:
        pq.write_table(table, file, compression="zstd", row_group_size=1 << 17, write_page_checksum=True)
        return file.digest


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
    """Yield a temporary name beside ``path``; rename it when the body ends well, remove it otherwise.

    Raises:
        WriteError: If the disk is full or read-only; what was at ``path`` before is unchanged.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    with writing(path, temporary):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            flush_to_disk(temporary)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        flush_to_disk(path.parent)


@contextmanager
def writing(path: Path, *temporary: Path) -> Iterator[None]:
    """Turn what a full or read-only disk says into an error of ours; errors of what the body reads stay what they are.

    Args:
        path: What is to be written.
        temporary: Other names under which it is written.

    Raises:
        WriteError: Naming ``path``.
    """
    try:
        yield
    except OSError as error:
        places = {str(place) for name in (path, *temporary) for place in (name, *name.parents)}
        if error.errno not in CANNOT_WRITE and str(error.filename) not in places:
            raise
        raise WriteError(
            f"{path}: cannot be written ({error.strerror or error}); what was there before is unchanged. Free some "
            "space or choose another place, and run the command again"
        ) from error


def flush_to_disk(path: Path) -> None:
    """Make a file's content, or the names in a folder, outlast a power cut."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

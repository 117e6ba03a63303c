"""Reading the embeddings of a store, from its files or from memory."""

from __future__ import annotations

import mmap
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from estitchup_pl.errors import StoreError
from estitchup_pl.store.files import EMBEDDINGS_NAME, StoreHeader, shard_path

PIECE_ROWS: Final = 8192
"""Rows read at a time, which bounds the memory that a gather takes beside its result."""

MAX_MAPPED_SHARDS: Final = 256
"""A mapped file holds a file descriptor, of which a process often has 1024."""

READAHEAD_BYTES: Final = 128 << 10
"""What Linux reads around a page that is missing in memory, unless told otherwise."""


class Shards(Protocol):
    """Where a store's embeddings come from."""

    in_file_order: bool
    """Whether reading rows in ascending order pays."""

    def take(self, modality: str, index: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Copy rows ``(count,)`` of one shard, to an array ``(count, dim)``."""
        ...

    def slice(self, modality: str, index: int, start: int, stop: int) -> npt.NDArray[Any]:
        """View rows ``[start, stop)`` of one shard."""
        ...

    def locate(self, modality: str, index: int, row: int) -> str:
        """Say where a row of a shard lies, for messages."""
        ...

    def unexpected(self, modality: str) -> list[Path]:
        """Files that look like shards but are none of the store's."""
        ...


class ResidentShards:
    """Embeddings in memory: one shard a modality."""

    in_file_order = False

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._arrays = dict(arrays)

    def take(self, modality: str, index: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """See :class:`Shards`."""
        return self._arrays[modality].take(rows, axis=0)

    def slice(self, modality: str, index: int, start: int, stop: int) -> npt.NDArray[Any]:
        """See :class:`Shards`."""
        return self._arrays[modality][start:stop]

    def locate(self, modality: str, index: int, row: int) -> str:
        """See :class:`Shards`."""
        return f"embeddings[{modality!r}], row {row}"

    def unexpected(self, modality: str) -> list[Path]:
        """See :class:`Shards`."""
        return []


class MappedShards:
    """Embeddings on disk: files are mapped when first touched, the longest untouched ones unmapped.

    Threads may read at the same time.
    """

    in_file_order = True

    def __init__(self, root: Path, header: StoreHeader) -> None:
        self._root = root
        self._header = header
        self._mapped: OrderedDict[tuple[str, int], MappedShard] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, modality: str, index: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """See :class:`Shards`; ``rows`` in ascending order."""
        return self._shard(modality, index).take(rows)

    def slice(self, modality: str, index: int, start: int, stop: int) -> npt.NDArray[Any]:
        """See :class:`Shards`."""
        return self._shard(modality, index).slice(start, stop)

    def locate(self, modality: str, index: int, row: int) -> str:
        """See :class:`Shards`."""
        item = self._header.shard_range(index)[0] + row
        return f"{shard_path(self._root, modality, index)}, row {row} (row {item} of the store)"

    def unexpected(self, modality: str) -> list[Path]:
        """See :class:`Shards`."""
        wanted = {shard_path(self._root, modality, index) for index in range(self._header.shards)}
        return sorted(set((self._root / EMBEDDINGS_NAME / modality).glob("*.npy")) - wanted)

    def _shard(self, modality: str, index: int) -> MappedShard:
        key = (modality, index)
        with self._lock:
            shard = self._mapped.get(key)
            if shard is None:
                start, stop = self._header.shard_range(index)
                info = self._header.modalities[modality]
                path = shard_path(self._root, modality, index)
                shard = self._mapped[key] = MappedShard(path, (stop - start, info.dim), info.dtype)
            self._mapped.move_to_end(key)
            if len(self._mapped) > MAX_MAPPED_SHARDS:
                self._mapped.popitem(last=False)
        return shard


class MappedShard:
    """One shard, mapped for reading, that tells the system how it is going to be read.

    Around a page that is not in memory Linux reads 128 KiB: right for rows that lie close together, but 30 times
    too much for a few scattered ones.

    Args:
        path: File of the shard.
        shape: ``(rows, dim)`` that it must have.
        dtype: Type that it must have.

    Raises:
        StoreError: If the file is missing, truncated, or does not have this shape and type.
    """

    def __init__(self, path: Path, shape: tuple[int, int], dtype: str) -> None:
        offset = _check_file(path, shape, np.dtype(dtype))
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._rows: npt.NDArray[Any] = np.ndarray(shape, dtype, buffer=self._map, offset=offset)
        self._scattered = False

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Copy rows in ascending order."""
        span = (int(rows[-1]) - int(rows[0])) * self._rows.strides[0]
        self._expect(scattered=span > len(rows) * READAHEAD_BYTES)
        return self._rows.take(rows, axis=0)

    def slice(self, start: int, stop: int) -> npt.NDArray[Any]:
        """View the rows ``[start, stop)``."""
        self._expect(scattered=False)
        return self._rows[start:stop]

    def _expect(self, *, scattered: bool) -> None:
        if scattered != self._scattered and hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_RANDOM if scattered else mmap.MADV_NORMAL)
            self._scattered = scattered


def _check_file(path: Path, shape: tuple[int, int], dtype: np.dtype[Any]) -> int:
    """Check a shard's header and size; return where its values begin."""
    try:
        with path.open("rb") as file:
            found = read_npy_header(file)
            offset, size = file.tell(), file.seek(0, 2)
    except FileNotFoundError:
        raise StoreError(f"{path}: missing. Restore it from a copy, or create the store again.") from None
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(f"{path}: truncated or not an NPY file ({error})") from error
    if found != (shape, False, dtype):
        order = "Fortran" if found[1] else "C"
        raise StoreError(
            f"{path}: expected shape {shape} of {dtype} in C order, got {found[0]} of {found[2]} in {order} order"
        )
    wanted = offset + shape[0] * shape[1] * dtype.itemsize
    if size != wanted:
        what = "truncated" if size < wanted else "too long"
        raise StoreError(f"{path}: {what}, {size} bytes where {wanted} are expected. Restore it from a copy.")
    return offset


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read shape, whether in Fortran order, and type from the head of an NPY file; leaves ``file`` behind it.

    Raises:
        ValueError: If this is no NPY file of version 1 or 2.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"NPY version {version[0]}.{version[1]}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def pieces(
    rows: npt.NDArray[np.int64], rows_per_shard: int, *, in_file_order: bool
) -> Iterator[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64] | slice]]:
    """Cut row numbers ``(count,)`` into pieces that each lie in one shard.

    Yields:
        Number of the shard, rows counted from its first, and their places among ``rows``. Shards ascend; so do
        the rows in each of them ``in_file_order``, which is needed as soon as there are several.

    Example:
        >>> for shard, local, places in pieces(np.array([7, 1, 5]), 4, in_file_order=True):
        ...     print(shard, local.tolist(), places.tolist())
        0 [1] [1]
        1 [1, 3] [2, 0]
    """
    if not in_file_order:
        for first in range(0, len(rows), PIECE_ROWS):
            yield 0, rows[first : first + PIECE_ROWS], slice(first, first + PIECE_ROWS)
        return
    order = np.argsort(rows, kind="stable")
    ascending = rows[order]
    shards = np.unique(ascending // rows_per_shard)
    cuts = np.searchsorted(ascending, np.append(shards * rows_per_shard, np.iinfo(np.int64).max))
    for shard, start, stop in zip(shards.tolist(), cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        for first in range(start, stop, PIECE_ROWS):
            places = slice(first, min(first + PIECE_ROWS, stop))
            yield shard, ascending[places] - shard * rows_per_shard, order[places]

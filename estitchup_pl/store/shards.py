"""Reading the embeddings of a store, from its files or from memory."""

from __future__ import annotations

import mmap
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from estitchup_pl.errors import StoreError
from estitchup_pl.store.files import EMBEDDINGS_NAME, shard_path
from estitchup_pl.store.header import StoreHeader

CHUNK_ROWS: Final = 8192
"""Rows read at a time, which bounds the memory that a gather takes beside its result."""

MAX_MAPPED_SHARDS: Final = 256
"""A mapped file holds a file descriptor, of which a process often has 1024."""

READAHEAD_BYTES: Final = 128 << 10
"""What Linux reads around a page that is missing in memory, unless told otherwise."""


class Shards(ABC):
    """Where a store's embeddings come from."""

    in_file_order: bool
    """Whether rows are best asked for in ascending order."""

    @abstractmethod
    def take(self, modalities: Sequence[str], rows: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[Any]]:
        """Copy rows ``(count,)``: one array ``(count, dim)`` for each modality."""

    @abstractmethod
    def slice(self, modality: str, index: int, start: int, stop: int) -> npt.NDArray[Any]:
        """View rows ``[start, stop)`` of one shard."""

    @abstractmethod
    def locate(self, modality: str, index: int, row: int) -> str:
        """Say where a row of a shard lies, for messages."""

    @abstractmethod
    def unexpected(self, modality: str) -> list[Path]:
        """Files that look like shards but are none of the store's."""


class ResidentShards(Shards):
    """Embeddings in memory: one shard a modality."""

    in_file_order = False

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._arrays = dict(arrays)

    @override
    def take(self, modalities: Sequence[str], rows: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[Any]]:
        for name in modalities:
            yield self._arrays[name].take(rows, axis=0)

    @override
    def slice(self, modality: str, index: int, start: int, stop: int) -> npt.NDArray[Any]:
        return self._arrays[modality][start:stop]

    @override
    def locate(self, modality: str, index: int, row: int) -> str:
        return f"embeddings[{modality!r}], row {row}"

    @override
    def unexpected(self, modality: str) -> list[Path]:
        return []


class MappedShards(Shards):
    """Embeddings on disk: files are mapped when first touched, the longest untouched ones unmapped.

    Threads may read at the same time.
    """

    in_file_order = True

    def __init__(self, root: Path, header: StoreHeader) -> None:
        self._root = root
        self._header = header
        self._mapped: OrderedDict[tuple[str, int], MappedShard] = OrderedDict()
        self._lock = threading.Lock()

    @override
    def take(self, modalities: Sequence[str], rows: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[Any]]:
        shards = rows // self._header.rows_per_shard
        local = rows - shards * self._header.rows_per_shard
        edges = [0, *(np.flatnonzero(np.diff(shards)) + 1).tolist(), len(rows)]
        pieces = [(int(shards[start]), slice(start, stop)) for start, stop in pairwise(edges)]
        for name in modalities:
            info = self._header.modalities[name]
            taken = np.empty((len(rows), info.dim), info.dtype)
            for index, piece in pieces:
                self._shard(name, index).take(local[piece], taken[piece])
            yield taken

    @override
    def slice(self, modality: str, index: int, start: int, stop: int) -> npt.NDArray[Any]:
        return self._shard(modality, index).slice(start, stop)

    @override
    def locate(self, modality: str, index: int, row: int) -> str:
        item = self._header.shard_range(index)[0] + row
        return f"{shard_path(self._root, modality, index)}, row {row} (row {item} of the store)"

    @override
    def unexpected(self, modality: str) -> list[Path]:
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

    def take(self, rows: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
        """Copy rows ``(count,)``, in ascending order and all within the shard, to ``out`` ``(count, dim)``."""
        span = (int(rows[-1]) - int(rows[0])) * self._rows.strides[0]
        self._expect(scattered=span >= (len(rows) - 1) * READAHEAD_BYTES)
        self._rows.take(rows, axis=0, out=out, mode="clip")  # the mode that writes without a buffer

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
        ValueError: If this is no NPY file of version 1 or 2, or its header is damaged.
        OSError: If it cannot be read.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"NPY version {version[0]}.{version[1]}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, fortran_order, dtype = read(file)
    except OSError:
        raise
    except Exception as error:  # the header is a literal of Python, whose parser fails in many ways
        raise ValueError(f"its header is damaged: {error}") from error
    if min(shape, default=0) < 0:
        raise ValueError(f"its header is damaged: shape {shape}")
    return shape, fortran_order, dtype


def chunks(
    rows: npt.NDArray[np.int64], *, in_file_order: bool
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | slice]]:
    """Cut row numbers ``(count,)`` into chunks, if asked in ascending order.

    Yields:
        Row numbers, and their places among ``rows``.

    Example:
        >>> [(chunk.tolist(), places.tolist()) for chunk, places in chunks(np.array([7, 1, 5]), in_file_order=True)]
        [([1, 5, 7], [1, 2, 0])]
    """
    order = np.argsort(rows, kind="stable") if in_file_order else None
    for first in range(0, len(rows), CHUNK_ROWS):
        places = slice(first, first + CHUNK_ROWS)
        if order is None:
            yield rows[places], places
        else:
            yield rows[order[places]], order[places]

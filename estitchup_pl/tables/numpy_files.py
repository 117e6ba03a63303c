"""Embeddings in numpy files: ``.npy`` is mapped, ``.npz`` streamed."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from estitchup_pl.errors import StoreError
from estitchup_pl.store import name_hint
from estitchup_pl.store.blocks import block_rows
from estitchup_pl.store.shards import read_npy_header
from estitchup_pl.tables.streams import StreamedRows


class NpyFile:
    """A ``.npy`` file, mapped when first read.

    Raises:
        StoreError: If it is no such file, truncated, or holds Python objects.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                self.shape, _, self.dtype = read_npy_header(file)
                offset, size = file.tell(), file.seek(0, 2)
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be read ({error.strerror})") from error
        except (ValueError, EOFError) as error:
            raise StoreError(f"{self.path}: not an NPY file, or truncated ({error})") from error
        _refuse_objects(self.dtype, self.locate())
        wanted = offset + math.prod(self.shape) * self.dtype.itemsize
        if size < wanted:
            raise StoreError(
                f"{self.path}: truncated, {size} bytes where its header {self.shape} of {self.dtype} needs {wanted}. "
                "Copy or export the file again."
            )
        self._mapped: npt.NDArray[Any] | None = None

    def __getitem__(self, rows: slice, /) -> npt.NDArray[Any]:
        if self._mapped is None:
            try:
                self._mapped = np.load(self.path, mmap_mode="r")
            except (OSError, ValueError) as error:
                raise StoreError(f"{self.path}: cannot be read ({error})") from error
        return self._mapped[rows]

    def locate(self, row: int | None = None) -> str:
        """Name of the file, and the row."""
        return str(self.path) if row is None else f"{self.path}, row {row}"


class ConcatenatedRows:
    """Several sources of the same modality, one after the other.

    Raises:
        StoreError: If they differ in dim or type.
    """

    def __init__(self, parts: Sequence[NpyFile]) -> None:
        first = parts[0]
        for part in parts:
            if len(part.shape) != 2 or part.shape[1:] != first.shape[1:] or part.dtype != first.dtype:
                raise StoreError(
                    f"{part.locate()}: shape {part.shape} of {part.dtype} does not continue {first.locate()}, "
                    f"which has shape {first.shape} of {first.dtype}"
                )
        self._parts = parts
        self._edges = [0, *accumulate(part.shape[0] for part in parts)]
        self.shape = (self._edges[-1], first.shape[1])
        self.dtype = first.dtype

    def __getitem__(self, rows: slice, /) -> npt.NDArray[Any]:
        start, stop, _ = rows.indices(self.shape[0])
        pieces = [
            part[max(start - edge, 0) : stop - edge]
            for part, edge in zip(self._parts, self._edges, strict=False)
            if edge < stop and edge + part.shape[0] > start
        ]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def locate(self, row: int | None = None) -> str:
        """Name of the part, and the row in it."""
        if row is None:
            return f"{self._parts[0].locate()} and {len(self._parts) - 1} more"
        index = int(np.searchsorted(self._edges, row, side="right")) - 1
        return self._parts[index].locate(row - self._edges[index])


def open_npz(path: Path | str, key: str | None = None) -> StreamedRows:
    """Stream one array of an ``.npz`` file, compressed or not.

    Args:
        path: The file.
        key: Name of the array; may be left out where there is only one.

    Raises:
        StoreError: If the file or the array cannot be read, or lies in Fortran order.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist()]
            key = key if key is not None else keys[0] if len(keys) == 1 else None
            if key not in keys:
                problem = "name one of its arrays, as FILE.npz:NAME" if key is None else f"no array {key!r}"
                raise StoreError(f"{path}: {problem}{name_hint(key or '', keys)}")
            with archive.open(f"{key}.npy") as member:
                shape, fortran_order, dtype = read_npy_header(member)
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # each way of packing, and each damage to it, fails with an exception of its own
        raise StoreError(f"{path}: not an NPZ file, or truncated ({error})") from error
    where = f"{path}:{key}"
    _refuse_objects(dtype, where)
    if fortran_order and len(shape) > 1:
        raise StoreError(f"{where}: in Fortran order. Save np.ascontiguousarray(array) instead.")
    return StreamedRows(shape, dtype, lambda: _npz_blocks(path, str(key), where), where)


def _npz_blocks(path: Path, key: str, where: str) -> Iterator[npt.NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as member:
            (rows, dim), _, dtype = read_npy_header(member)
            step = block_rows(dim, dtype)
            for first in range(0, rows, step):
                count = min(step, rows - first)
                values = member.read(count * dim * dtype.itemsize)
                if len(values) < count * dim * dtype.itemsize:
                    raise StoreError(
                        f"{where}: truncated after row {first + len(values) // (dim * dtype.itemsize) - 1}"
                    )
                yield np.frombuffer(values, dtype).reshape(count, dim)
    except StoreError:
        raise
    except Exception as error:  # each way of packing, and each damage to it, fails with an exception of its own
        raise StoreError(f"{where}: damaged ({error})") from error


def _refuse_objects(dtype: np.dtype[Any], where: str) -> None:
    if dtype.hasobject:
        raise StoreError(
            f"{where}: holds Python objects (dtype {dtype}), e.g. rows of different lengths. "
            "Save one array of shape (rows, dim) of float16 or float32."
        )

"""Embeddings on their way into a store: read in blocks of rows, checked, cast, never whole in memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from estitchup_pl.errors import StoreError
from estitchup_pl.store.files import ModalityInfo

BLOCK_BYTES: Final = 8 << 20
"""Size of the blocks in which embeddings are read and written."""

_ODD_TYPES: Final = {
    "V2": ", which is how bfloat16 comes out of an NPY file",
    "O": ": Python objects, such as a sparse matrix, or rows of different lengths",
}


@runtime_checkable
class RowSource(Protocol):
    """Rows of one modality, read one slice after the other from the first row to the last."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(rows, dim)``."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Numpy type of the values."""
        ...

    def __getitem__(self, rows: slice, /) -> npt.NDArray[Any]:
        """Read the rows ``[start, stop)`` as an array ``(stop - start, dim)``."""
        ...

    def locate(self, row: int | None = None) -> str:
        """Say where a row (or, without one, the whole) comes from: a file's name and the row in it."""
        ...


class ArraySource:
    """An array in memory, or mapped from a file, as a :class:`RowSource`.

    Args:
        array: Anything that :func:`as_array` takes.
        name: What messages call it, unless it is mapped from a file.

    Attributes:
        array: The numpy array.
    """

    def __init__(self, array: npt.ArrayLike, name: str) -> None:
        self.array = as_array(array, name)
        mapped = isinstance(self.array, np.memmap) and self.array.filename
        self._name = str(mapped or name)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(rows, dim)``."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Numpy type of the values."""
        return self.array.dtype

    def __getitem__(self, rows: slice, /) -> npt.NDArray[Any]:
        return self.array[rows]

    def locate(self, row: int | None = None) -> str:
        """Name of the array or its file, and the row."""
        return self._name if row is None else f"{self._name}, row {row}"


def as_array(values: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    """Make a numpy array of what somebody hands over, without a copy where that is possible.

    Tensors of PyTorch may be on any device, sparse, of bfloat16 or part of a gradient's graph.

    Raises:
        StoreError: For what is no array of numbers, or has masked values.

    Example:
        >>> as_array([[1.0, 2.0]], "title").shape
        (1, 2)
    """
    torch = sys.modules.get("torch")  # there is no tensor without it; a store itself does not need it
    try:
        if torch is not None and isinstance(values, torch.Tensor):
            dense = values.detach().cpu().to_dense()
            values = dense.float() if dense.is_floating_point() and dense.dtype != torch.float16 else dense
        array: npt.NDArray[Any] = np.asanyarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise StoreError(f"{name}: cannot be made an array of shape (rows, dim) ({error})") from error
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise StoreError(f"{name}: has masked values; fill them, with zeros where a whole row is missing")
    return array


class BlockFacts(NamedTuple):
    """What one look at a block ``(rows, dim)`` tells about its rows."""

    finite: npt.NDArray[np.bool_]
    present: npt.NDArray[np.bool_]


def inspect_block(block: npt.NDArray[Any]) -> BlockFacts:
    """Tell which rows are finite and which are not all zeros.

    Works on the bits: without the sign, IEEE numbers sort like whole numbers, with infinity and NaN on top. One
    integer maximum answers both questions, several times faster than float16 arithmetic does.

    Example:
        >>> facts = inspect_block(np.array([[0.0, -0.0], [1.0, np.nan]], np.float32))
        >>> facts.finite.tolist(), facts.present.tolist()
        ([True, False], [False, True])
    """
    if block.dtype.itemsize == 2:
        peaks = (block.view(np.uint16) & np.uint16(0x7FFF)).max(axis=1)
        return BlockFacts(finite=peaks < 0x7C00, present=peaks > 0)
    peaks = (block.view(np.uint32) & np.uint32(0x7FFFFFFF)).max(axis=1)
    return BlockFacts(finite=peaks < 0x7F800000, present=peaks > 0)


def describe_source(source: RowSource, rows: int, info: ModalityInfo | None) -> ModalityInfo:
    """Check a source's shape and type against the table and ``info``; say how it will be stored.

    Raises:
        StoreError: For a wrong number of dimensions, rows or columns, or values that are not floating point.
    """
    where, shape, dtype = source.locate(), tuple(source.shape), np.dtype(source.dtype)
    if dtype.kind != "f":
        raise StoreError(
            f"{where}: expected floating-point embeddings, got values of type {dtype}"
            f"{_ODD_TYPES.get(dtype.str[1:], '')}. Convert them to float32 first."
        )
    if len(shape) != 2 or shape[1] < 1:
        raise StoreError(f"{where}: expected an array of shape (rows, dim), got shape {shape}")
    if shape[0] != rows:
        what = "missing" if shape[0] < rows else "too many"
        raise StoreError(
            f"{where}: {shape[0]} rows of embeddings for a table of {rows} items "
            f"({abs(rows - shape[0])} {what}); row i of the embeddings must belong to row i of the table"
        )
    stored = "float16" if dtype.itemsize == 2 else "float32"
    info = info or ModalityInfo(dim=shape[1], dtype=stored)
    if info.dim != shape[1]:
        raise StoreError(f"{where}: expected {info.dim} columns, got {shape[1]}")
    return info


def checked_blocks(
    source: RowSource, start: int, stop: int, dtype: str, expected: npt.NDArray[np.bool_] | None
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]]:
    """Read rows ``[start, stop)`` block by block, cast to ``dtype``.

    Args:
        source: Where the rows come from.
        start: First row.
        stop: Row after the last one.
        dtype: ``"float16"`` or ``"float32"``.
        expected: Flags ``has_<modality>`` of all rows, where the table has them.

    Yields:
        A block ``(rows, dim)``, and for each of its rows whether the modality is present ``(rows,)``.

    Raises:
        StoreError: For NaN, infinity, a value too large for ``dtype``, or a flag that contradicts its row.
    """
    step = block_rows(source.shape[1], dtype)
    for first in range(start, stop, step):
        last = min(first + step, stop)
        raw = source[first:last]
        if raw.shape != (last - first, source.shape[1]):
            raise StoreError(
                f"{source.locate(first)}: read shape {raw.shape}, expected {(last - first, source.shape[1])}"
            )
        with np.errstate(over="ignore"):  # reported below, with the row
            block = np.ascontiguousarray(raw, dtype=dtype)
        facts = inspect_block(block)
        if not facts.finite.all():
            raise _not_finite(source, first, raw, facts, dtype)
        if expected is not None:
            check_flags(facts.present, expected[first:last], first, source.locate)
        yield block, facts.present


def block_rows(dim: int, dtype: npt.DTypeLike) -> int:
    """Rows in a block of about :data:`BLOCK_BYTES`."""
    return max(1, BLOCK_BYTES // (dim * np.dtype(dtype).itemsize))


def check_flags(
    present: npt.NDArray[np.bool_], expected: npt.NDArray[np.bool_], first: int, locate: Callable[[int], str]
) -> None:
    """Raise :class:`StoreError` unless rows are all zeros exactly where their flag is false."""
    wrong = np.flatnonzero(present != expected)
    if not len(wrong):
        return
    where = locate(first + int(wrong[0]))
    if expected[wrong[0]]:
        raise StoreError(
            f"{where}: all zeros, though the table's has_ column says that the item has this modality. "
            "Set the column to false there, or leave the column out: it is then derived from the zeros."
        )
    raise StoreError(
        f"{where}: not all zeros, though the table's has_ column says that the item lacks this modality. "
        "Set the column to true there, or the embedding to zeros."
    )


def _not_finite(source: RowSource, first: int, raw: npt.NDArray[Any], facts: BlockFacts, dtype: str) -> StoreError:
    row = int(np.argmin(facts.finite))
    with np.errstate(over="ignore"):
        column = int(np.argmin(np.isfinite(raw[row].astype(dtype))))
    value = raw[row, column]
    where = f"{source.locate(first + row)}, column {column}"
    if np.isfinite(value):
        return StoreError(
            f"{where}: {value} does not fit into {dtype} (largest value {np.finfo(dtype).max}). "
            "Store this modality as float32, or scale it."
        )
    return StoreError(f"{where}: expected finite numbers, got {value}. Repair or drop the item.")

"""Embeddings on their way into a store: checked and cast block by block, never whole in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from estitchup_pl.errors import StoreError
from estitchup_pl.store.header import ModalityInfo
from estitchup_pl.store.sources import RowSource

BLOCK_BYTES: Final = 8 << 20
"""Size of the blocks in which embeddings are read and written."""

_ODD_TYPES: Final = {
    "V2": ", which is how bfloat16 comes out of an NPY file",
    "O": ": Python objects, such as a sparse matrix, or rows of different lengths",
}


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

"""Arrow columns of lists as arrays of rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from estitchup_pl.errors import StoreError


def check_list_type(kind: pa.DataType, where: str) -> np.dtype[Any]:
    """Return the numpy type of the values in lists of floats.

    Raises:
        StoreError: If ``kind`` is another type.
    """
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not pa.types.is_floating(kind.value_type):
        raise StoreError(f"{where}: expected a column of lists of floating-point numbers, got type {kind}")
    dtype: np.dtype[Any] = np.dtype(kind.value_type.to_pandas_dtype())
    return dtype


def first_length(kind: pa.DataType, lists: Iterable[pa.Array], where: str) -> int:
    """Length of the lists of a column: of the first that is neither null nor empty.

    Raises:
        StoreError: If there is none.
    """
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    for some in lists:
        lengths = pc.list_value_length(some)
        lengths = lengths.filter(pc.greater(lengths, 0))
        if len(lengths):
            return int(lengths[0].as_py())
    raise StoreError(f"{where}: every row is null or empty; expected lists of floats")


def list_rows(lists: pa.Array, dim: int, where: str, first: int = 0) -> npt.NDArray[Any]:
    """Turn lists of ``dim`` floats into an array ``(rows, dim)``; a null or empty list becomes a row of zeros.

    Args:
        lists: Arrow array of lists.
        dim: Length that every other list must have.
        where: What messages call the column.
        first: Row of the first list, for messages.

    Raises:
        StoreError: For a list of another length, or with a null in it.

    Example:
        >>> list_rows(pa.array([[1.0, 2.0], None, []]), 2, "column").tolist()
        [[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]]
    """
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    present = lengths > 0
    if (lengths[present] != dim).any():
        row = int(np.argmax(present & (lengths != dim)))
        raise StoreError(f"{where}, row {first + row}: {lengths[row]} values where other rows have {dim}")
    values = lists.flatten()
    if values.null_count:
        position = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
        row = int(np.flatnonzero(present)[position // dim])
        raise StoreError(f"{where}, row {first + row}: a null among its values; expected finite numbers")
    rows: npt.NDArray[Any] = values.to_numpy(zero_copy_only=False).reshape(-1, dim)
    if present.all():
        return rows
    spread = np.zeros((len(lists), dim), rows.dtype)
    spread[present] = rows
    return spread

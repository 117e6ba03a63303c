"""Where embeddings come from: anything whose rows can be read one slice after the other."""

from __future__ import annotations

import sys
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from estitchup_pl.errors import StoreError


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

"""Rows that can only be read front to back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from estitchup_pl.errors import StoreError


class StreamedRows:
    """Rows that can only be read front to back, such as those of a compressed file.

    Args:
        shape: ``(rows, dim)``.
        dtype: Type of the values.
        blocks: Starts reading; yields arrays ``(any number of rows, dim)``.
        where: What messages call the source.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        blocks: Callable[[], Iterator[npt.NDArray[Any]]],
        where: str,
    ) -> None:
        self.shape = shape
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self._start_reading = blocks
        self._where = where
        self._restart()

    def __getitem__(self, rows: slice, /) -> npt.NDArray[Any]:
        start, stop, _ = rows.indices(self.shape[0])
        if start < self._position:
            self._restart()
        self._read(start - self._position)
        return self._read(stop - start)

    def locate(self, row: int | None = None) -> str:
        """Name of the source, and the row."""
        return self._where if row is None else f"{self._where}, row {row}"

    def _restart(self) -> None:
        self._blocks = self._start_reading()
        self._rest: npt.NDArray[Any] = np.empty((0, *self.shape[1:]), self.dtype)
        self._position = 0

    def _read(self, count: int) -> npt.NDArray[Any]:
        read: list[npt.NDArray[Any]] = []
        while count > 0:
            if not len(self._rest):
                self._rest = self._next_block()
            read.append(self._rest[:count])
            self._rest = self._rest[count:]
            self._position += len(read[-1])
            count -= len(read[-1])
        return np.concatenate(read) if read else self._rest[:0]

    def _next_block(self) -> npt.NDArray[Any]:
        try:
            return next(self._blocks)
        except StopIteration:
            raise StoreError(f"{self._where}: ends after row {self._position - 1} of {self.shape[0]}") from None

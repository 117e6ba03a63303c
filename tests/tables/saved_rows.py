"""Rows of embeddings that the tests of readers save and read back."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from estitchup_pl.store import RowSource
from estitchup_pl.tables import ItemReader

ROWS = 23


def made_rows(dtype=np.float32, rows=ROWS, dim=4, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, dim)).astype(dtype)


def read_all(source: RowSource, step: int = 5) -> np.ndarray:
    return np.concatenate([source[first : first + step] for first in range(0, source.shape[0], step)])


def lists_of(rows: np.ndarray, fixed_size: bool = False) -> pa.Array:
    values = pa.array(rows.reshape(-1))
    if fixed_size:
        return pa.FixedSizeListArray.from_arrays(values, rows.shape[1])
    return pa.ListArray.from_arrays(np.arange(0, rows.size + 1, rows.shape[1]), values)


def items_of(reader: ItemReader) -> list[dict]:
    return pa.Table.from_batches(list(reader.batches())).to_pylist()

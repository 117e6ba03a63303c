"""Groups of "none" rows, such as items near the known classes and items far from them."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from estitchup_pl.errors import DataError, StoreError
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.labels import Rows

MOST: Final = 20
"""Groups that a column may make: more are names or numbers of items, not groups."""


def none_groups(store: EmbeddingStore, column: str, none_rows: Rows) -> dict[str, Tensor]:
    """Part "none" rows by a column of the store's items.

    Args:
        store: The store.
        column: A column of its items; rows without a value belong to no group.
        none_rows: Rows that count as "none", int64 ``(none rows,)``.

    Returns:
        Rows of each group by the text of its value, sorted, int64 ``(rows of the group,)``.

    Raises:
        DataError: If the store has no such column, or it holds too many different values.

    Example:
        >>> import numpy as np
        >>> from estitchup_pl.data.digits import digits_store
        >>> none_groups(digits_store(), "label", np.array([8, 9, 18]))
        {'eight': tensor([ 8, 18]), 'nine': tensor([9])}
    """
    try:
        values = store.column(column).cast(pa.string()).take(none_rows).combine_chunks()
    except StoreError as error:
        raise DataError(f"none_groups: {error}") from error
    names = sorted(pc.unique(values.drop_null()).to_pylist())
    if len(names) > MOST:
        raise DataError(
            f'none_groups: the column {column!r} has {len(names)} different values among the "none" rows, expected at '
            f"most {MOST}, such as near and far"
        )
    codes = pc.index_in(values, value_set=pa.array(names, pa.string()), skip_nulls=True).fill_null(-1).to_numpy()
    return {name: torch.from_numpy(none_rows[codes == code]) for code, name in enumerate(names)}

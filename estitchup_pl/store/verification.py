"""Comparing a store with its format, down to the last value, and with what was written, down to the last byte."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from estitchup_pl.errors import StoreError
from estitchup_pl.store.blocks import block_rows, check_flags, inspect_block
from estitchup_pl.store.files import digest_file
from estitchup_pl.store.header import StoreHeader
from estitchup_pl.store.items import check_ids, flag_column, flags_from_items
from estitchup_pl.store.shards import Shards


def required_columns(header: StoreHeader) -> dict[str, pa.DataType]:
    """Names and types of the columns that the table of every store has."""
    flags = {flag_column(name): pa.bool_() for name in header.modalities}
    return {"id": pa.string(), "label": pa.string(), **flags}


def verify_items(items: pa.Table, header: StoreHeader, where: str) -> Mapping[str, npt.NDArray[np.bool_]]:
    """Check the required columns; return the flags ``has_<modality>`` ``(rows,)`` of every modality.

    Raises:
        StoreError: For a column that is missing or of another type, and ids that are null or repeated.
    """
    for name, kind in required_columns(header).items():
        if name not in items.column_names:
            raise StoreError(f"{where}: no column {name!r}; every store has one of type {kind}")
        if items[name].type != kind:
            raise StoreError(f"{where}: column {name!r} must be of type {kind}, got {items[name].type}")
    check_ids(items["id"], where)
    return flags_from_items(items, header.modalities, where)


def verify_modality(
    header: StoreHeader,
    modality: str,
    flags: npt.NDArray[np.bool_],
    shards: Shards,
    advance: Callable[[int], object],
) -> None:
    """Read every shard of one modality.

    Raises:
        StoreError: For a shard that is missing, truncated or one too many, NaN or infinity, or a flag that
            contradicts its row.
    """
    for path in shards.unexpected(modality):
        raise StoreError(f"{path}: unexpected; the store's {header.rows} rows end before it. Remove the file.")
    info = header.modalities[modality]
    step = block_rows(info.dim, info.dtype)
    for index in range(header.shards):
        start, stop = header.shard_range(index)
        for first in range(0, stop - start, step):
            last = min(first + step, stop - start)
            facts = inspect_block(shards.slice(modality, index, first, last))

            def locate(row: int, index: int = index) -> str:
                return shards.locate(modality, index, row)

            if not facts.finite.all():
                where = locate(first + int(np.argmin(facts.finite)))
                raise StoreError(f"{where}: expected finite numbers, got NaN or infinity")
            check_flags(facts.present, flags[start + first : start + last], first, locate)
            advance(last - first)


def verify_digest(root: Path, header: StoreHeader, path: Path) -> None:
    """Compare a file's bytes with the digest that the header has of it.

    Raises:
        StoreError: If the file is missing, differs, or the header knows no such file.
    """
    wanted = header.digests.get(path.relative_to(root).as_posix())
    if wanted is None:
        raise StoreError(f"{path}: the store's header has no digest of it. Create the store again.")
    try:
        found = digest_file(path)
    except FileNotFoundError:
        raise StoreError(f"{path}: missing. Restore it from a copy, or create the store again.") from None
    if found != wanted:
        raise StoreError(
            f"{path}: changed since it was written (its bytes do not match their digest). Restore it from a copy, or "
            "create the store again."
        )

"""Comparing what lies on disk with the format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from estitchup_pl.errors import StoreError
from estitchup_pl.store.files import StoreHeader, shard_path
from estitchup_pl.store.items import check_ids, flag_column, flags_from_items
from estitchup_pl.store.sources import block_rows, check_flags, inspect_block


def open_shard(root: Path, header: StoreHeader, modality: str, index: int) -> npt.NDArray[Any]:
    """Map one shard for reading.

    Raises:
        StoreError: If the file is missing, truncated or does not fit the header.
    """
    path, info = shard_path(root, modality, index), header.modalities[modality]
    start, stop = header.shard_range(index)
    try:
        shard = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise StoreError(f"{path}: missing; it should hold rows {start} to {stop - 1}") from None
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(f"{path}: truncated or not an NPY file ({error})") from error
    if shard.shape != (stop - start, info.dim) or shard.dtype != np.dtype(info.dtype):
        raise StoreError(
            f"{path}: expected shape {(stop - start, info.dim)} of {info.dtype}, "
            f"got {shard.shape} of {shard.dtype}"
        )
    return shard.view(np.ndarray)


def verify_items(items: pa.Table, header: StoreHeader, where: str) -> dict[str, npt.NDArray[np.bool_]]:
    """Check the table; return the flags ``has_<modality>`` ``(rows,)`` of every modality."""
    wanted = {"id": pa.string(), "label": pa.string()}
    wanted |= {flag_column(name): pa.bool_() for name in header.modalities}
    for name, kind in wanted.items():
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
    root: Path | None,
    load_shard: Callable[[str, int], npt.NDArray[Any]],
    advance: Callable[[int], object],
) -> None:
    """Read every shard of one modality and check its values and flags."""
    info = header.modalities[modality]
    step = block_rows(info.dim, info.dtype)
    for index in range(header.shards):
        where = shard_path(root, modality, index) if root is not None else f"embeddings[{modality!r}]"
        start, stop = header.shard_range(index)
        shard = load_shard(modality, index)
        for first in range(0, stop - start, step):
            block = shard[first : first + step]
            facts = inspect_block(block)
            if not facts.finite.all():
                row = first + int(np.argmin(facts.finite))
                raise StoreError(
                    f"{where}, row {row} (item {start + row}): expected finite numbers, got NaN or infinity"
                )
            check_flags(
                facts.present,
                flags[start + first : start + first + len(block)],
                first,
                lambda row, where=where, start=start: f"{where}, row {row} (item {start + row})",
            )
            advance(len(block))

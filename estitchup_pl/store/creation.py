"""Writing a whole store: built beside what is there, put in place when it is whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tqdm import tqdm

from estitchup_pl.errors import StoreError
from estitchup_pl.store.blocks import checked_blocks, describe_source
from estitchup_pl.store.files import EMBEDDINGS_NAME, ITEMS_NAME, flush_to_disk, shard_path, write_items, write_npy
from estitchup_pl.store.header import HEADER_NAME, ModalityInfo, StoreHeader, write_header
from estitchup_pl.store.items import flags_from_items, name_hint, normalize_items, with_flags
from estitchup_pl.store.sources import ArraySource, RowSource

BUILD_NAME: Final = ".unfinished"
"""Folder, inside the store's, in which a store is built. Its presence marks a store that was cut off."""


def write_store(
    path: Path,
    items: pa.Table,
    embeddings: Mapping[str, npt.ArrayLike | RowSource],
    info: Mapping[str, ModalityInfo],
    rows_per_shard: int,
    *,
    progress: bool,
    overwrite: bool,
    items_name: str,
) -> None:
    """Check everything and write a store; see ``EmbeddingStore.create``."""
    table = normalize_items(items, items_name)
    for name in info:
        if name not in embeddings:
            raise StoreError(f"info for modality {name!r}, which has no embeddings{name_hint(name, embeddings)}")
    sources = {
        name: values if isinstance(values, RowSource) else ArraySource(values, f"embeddings[{name!r}]")
        for name, values in embeddings.items()
    }
    described = {name: describe_source(source, len(table), info.get(name)) for name, source in sources.items()}
    header = StoreHeader(len(table), rows_per_shard, described)
    flags = flags_from_items(table, sources, items_name)
    with (
        building(path, overwrite=overwrite) as root,
        tqdm(total=len(table) * len(sources), unit="row", disable=not progress) as bar,
    ):
        for name, source in sources.items():
            flags[name] = _write_modality(root, header, name, source, flags.get(name), bar.update)
        write_items(root, with_flags(table, flags))
        write_header(root, header)


def _write_modality(
    root: Path,
    header: StoreHeader,
    name: str,
    source: RowSource,
    expected: npt.NDArray[np.bool_] | None,
    advance: Callable[[int], object],
) -> npt.NDArray[np.bool_]:
    """Write all shards of one modality; return which rows have it ``(rows,)``."""
    info, present = header.modalities[name], []

    def blocks(start: int, stop: int) -> Iterator[npt.NDArray[Any]]:
        for block, block_present in checked_blocks(source, start, stop, info.dtype, expected):
            present.append(block_present)
            yield block
            advance(len(block))

    for index in range(header.shards):
        start, stop = header.shard_range(index)
        write_npy(shard_path(root, name, index), (stop - start, info.dim), info.dtype, blocks(start, stop))
    return np.concatenate(present)


@contextmanager
def building(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder to build a store in, and put the store in place when the body ends well.

    The folder lies inside ``path``, so on the same disk. An older store there stays whole until then; when the
    body fails, everything that was made here is removed.

    Raises:
        StoreError: If ``path`` is in use and ``overwrite`` is false.
    """
    _refuse_if_in_use(path, overwrite)
    new_folders = [folder for folder in (path, *path.parents) if not folder.exists()]
    root = path / BUILD_NAME
    if root.exists():
        shutil.rmtree(root)
    root.mkdir(parents=True)
    try:
        yield root
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        with suppress(OSError):  # somebody else's file is in one of them by now
            for folder in new_folders:
                folder.rmdir()
        raise
    _put_in_place(root, path)


def _refuse_if_in_use(path: Path, overwrite: bool) -> None:
    if path.exists() and not path.is_dir():
        raise StoreError(f"{path}: expected a folder to write the store to, got a file")
    if overwrite or not path.exists():
        return
    if (path / HEADER_NAME).exists():
        raise StoreError(f"{path} holds a store already. Choose another folder, or pass overwrite (--overwrite).")
    if any(path.iterdir()) and not (path / BUILD_NAME).is_dir():
        raise StoreError(
            f"{path} is not empty, and not an unfinished store. Choose another folder, or pass overwrite "
            f"(--overwrite), which replaces {HEADER_NAME}, {ITEMS_NAME} and {EMBEDDINGS_NAME}/ there."
        )


def _put_in_place(root: Path, path: Path) -> None:
    """Swap an older store for the finished one by renaming; the header leaves first and arrives last."""
    retired = root / "retired"
    retired.mkdir()
    for name in (HEADER_NAME, EMBEDDINGS_NAME, ITEMS_NAME):
        if (path / name).exists():
            (path / name).replace(retired / name)
    for name in (EMBEDDINGS_NAME, ITEMS_NAME, HEADER_NAME):
        (root / name).replace(path / name)
    flush_to_disk(path)
    shutil.rmtree(root)

"""Writing a whole store: built beside what is there, put in place when it is whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tqdm import tqdm

from estitchup_pl.errors import StoreError
from estitchup_pl.locking import LOCK_NAME, locked_folder
from estitchup_pl.store.blocks import checked_blocks, describe_source
from estitchup_pl.store.files import EMBEDDINGS_NAME, ITEMS_NAME, shard_name, shard_path, write_items, write_npy
from estitchup_pl.store.header import HEADER_NAME, ModalityInfo, StoreHeader, write_header
from estitchup_pl.store.items import flags_from_items, has_integer_ids, name_hint, normalize_items, with_flags
from estitchup_pl.store.sources import ArraySource, RowSource
from estitchup_pl.store.swap import BUILD_NAME, begin_swap, finish_swap


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
    header = StoreHeader(len(table), rows_per_shard, described, integer_ids=has_integer_ids(items))
    flags = flags_from_items(table, sources, items_name)
    digests: dict[str, str] = {}
    with (
        building(path, overwrite=overwrite) as root,
        tqdm(total=len(table) * len(sources), unit="row", disable=not progress) as bar,
    ):
        for name, source in sources.items():
            flags[name], written = _write_modality(root, header, name, source, flags.get(name), bar.update)
            digests |= written
        digests[ITEMS_NAME] = write_items(root, with_flags(table, flags))
        write_header(root, header.with_digests(digests))


def _write_modality(
    root: Path,
    header: StoreHeader,
    name: str,
    source: RowSource,
    expected: npt.NDArray[np.bool_] | None,
    advance: Callable[[int], object],
) -> tuple[npt.NDArray[np.bool_], dict[str, str]]:
    """Write all shards of one modality; return which rows have it ``(rows,)``, and the files' digests."""
    info, present = header.modalities[name], []
    digests: dict[str, str] = {}

    def blocks(start: int, stop: int) -> Iterator[npt.NDArray[Any]]:
        for block, block_present in checked_blocks(source, start, stop, info.dtype, expected):
            present.append(block_present)
            yield block
            advance(len(block))

    for index in range(header.shards):
        start, stop = header.shard_range(index)
        digest = write_npy(shard_path(root, name, index), (stop - start, info.dim), info.dtype, blocks(start, stop))
        digests[shard_name(name, index)] = digest
    return np.concatenate(present), digests


@contextmanager
def building(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder to build a store in, and put the store in place when the body ends well.

    The folder lies inside ``path``, so on the same disk. An older store there stays whole until then; when the
    body fails, everything that was made here is removed.

    Raises:
        StoreError: If ``path`` is in use and ``overwrite`` is false.
        WriteError: If ``path`` cannot be written to, or another command is writing there.
    """
    if path.exists() and not path.is_dir():
        raise StoreError(f"{path}: expected a folder to write the store to, got a file")
    with locked_folder(path):
        finished = finish_swap(path)
        _refuse_if_in_use(path, overwrite, "; a creation that was cut off has just been finished" if finished else "")
        root = path / BUILD_NAME
        if root.exists():
            shutil.rmtree(root)
        root.mkdir()
        try:
            yield root
            begin_swap(path)
        except BaseException:
            shutil.rmtree(root, ignore_errors=True)
            raise
        finish_swap(path)


def _refuse_if_in_use(path: Path, overwrite: bool, how: str) -> None:
    if overwrite:
        return
    if (path / HEADER_NAME).exists():
        raise StoreError(f"{path} holds a store already{how}. Choose another folder, or pass overwrite (--overwrite).")
    if {file.name for file in path.iterdir()} - {LOCK_NAME} and not (path / BUILD_NAME).is_dir():
        raise StoreError(
            f"{path} is not empty, and not an unfinished store. Choose another folder, or pass overwrite "
            f"(--overwrite), which replaces {HEADER_NAME}, {ITEMS_NAME} and {EMBEDDINGS_NAME}/ there."
        )

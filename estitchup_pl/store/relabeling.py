"""Writing other labels into a store, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from estitchup_pl.store.embedding_store import EmbeddingStore
from estitchup_pl.store.files import ITEMS_NAME, write_items
from estitchup_pl.store.header import read_header, write_header
from estitchup_pl.store.swap import BUILD_NAME, begin_swap, finish_swap
from estitchup_pl.store.verification import verify_digest


def write_labels(path: Path, labels: Mapping[str, str | None]) -> None:
    """Give items other labels: table and header are built beside the old ones and take their place together.

    Killed anywhere, the store has all of the old labels or all of the new ones. The caller holds the folder's lock.

    Args:
        path: Folder of the store.
        labels: New label of items by id; ``None`` takes it away.

    Raises:
        StoreError: If the folder is no store, or its table is damaged, which the new digest would hide.
        WriteError: If the disk is full or read-only.
    """
    finish_swap(path)
    header = read_header(path)
    verify_digest(path, header, path / ITEMS_NAME)
    items = EmbeddingStore.open(path).items
    column = zip(items["id"].to_pylist(), items["label"].to_pylist(), strict=True)
    changed = pa.array([labels.get(name, label) for name, label in column], pa.string())
    root = path / BUILD_NAME
    if root.exists():
        shutil.rmtree(root)
    root.mkdir()
    table = items.set_column(items.schema.get_field_index("label"), "label", changed)
    write_header(root, header.with_digests({ITEMS_NAME: write_items(root, table)}))
    begin_swap(path)
    finish_swap(path)

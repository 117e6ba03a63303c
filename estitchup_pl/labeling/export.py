"""A queue with the items themselves, as a file for people or for Label Studio."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from estitchup_pl.errors import ConfigError
from estitchup_pl.labeling.label_studio import labeling_interface, tasks
from estitchup_pl.store import EmbeddingStore, flag_column
from estitchup_pl.store.files import atomic_path

TABLES: Final = (".csv", ".parquet")
"""Endings of a table's file."""

FORMATS: Final = (*TABLES, ".json")
"""Endings of a queue's file; JSON is what Label Studio imports."""


def with_items(queue: pa.Table, store: EmbeddingStore, columns: Sequence[str] | None = None) -> pa.Table:
    """Put the items' own columns beside a queue.

    Args:
        queue: What :func:`~estitchup_pl.labeling.build_queue` gave.
        store: The store that its rows are of.
        columns: Columns of the items; all that hold text or numbers if not given.

    Returns:
        ``id`` first, then the items' columns, then those of the queue without ``row``.

    Raises:
        StoreError: If there is no such column.
    """
    flags = {flag_column(modality) for modality in store.modalities}
    own = [name for name in store.column_names if name not in {"label", "split", *flags}]
    names = ["id", *(name for name in (own if columns is None else columns) if name != "id")]
    items = {name: store.column(name).take(queue["row"]) for name in names}
    plain = {name: values for name, values in items.items() if columns is not None or not _is_nested(values.type)}
    return pa.table({**plain, **{name: queue[name] for name in queue.column_names if name != "row"}})


def write_queue(path: Path, queue: pa.Table, class_names: Sequence[str], images: Sequence[str] = ()) -> list[Path]:
    """Write a queue as CSV, parquet, or JSON for Label Studio, with its labelling interface beside it.

    Args:
        path: The file; its ending, one of :data:`FORMATS`, says the format.
        queue: What :func:`with_items` gave.
        class_names: Classes to choose from.
        images: Columns that hold addresses of pictures, for Label Studio.

    Returns:
        The files that were written.

    Raises:
        ConfigError: If there is no such column of pictures.
    """
    if path.suffix == ".json":
        return _write_tasks(path, queue, class_names, images)
    write_table(path, queue)
    return [path]


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as CSV where the name ends so, else as parquet; whole or not at all."""
    with atomic_path(path) as temporary:
        (pyarrow.csv.write_csv if path.suffix == ".csv" else pq.write_table)(table, temporary)


def check_output(path: Path, formats: Sequence[str], overwrite: bool) -> None:
    """Refuse a file that cannot be written under its name, before anything is computed.

    Raises:
        ConfigError: For another ending than one of ``formats``, or a file that is there and not to be replaced.
    """
    if path.suffix not in formats:
        raise ConfigError(f"{path}: expected a name that ends in {', '.join(formats[:-1])} or {formats[-1]}")
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists: choose another path, or replace it with --overwrite")


def _write_tasks(path: Path, queue: pa.Table, class_names: Sequence[str], images: Sequence[str]) -> list[Path]:
    shown = queue.column_names[: queue.column_names.index("predicted")]
    for name in images:
        if name not in shown:
            raise ConfigError(f"--images: the queue has no column {name!r}; it has {', '.join(shown)}")
    texts = [name for name in shown if name not in images and (name != "id" or len(shown) == 1 + len(images))]
    interface = path.with_suffix(".xml")
    first = [*texts, *images][0]
    with atomic_path(interface) as temporary:
        temporary.write_text(labeling_interface(class_names, texts, images) + "\n", encoding="utf-8")
    with atomic_path(path) as temporary:
        found = tasks(queue.to_pylist(), first, "estitchup")
        temporary.write_text(json.dumps(found, indent=1, default=str, ensure_ascii=False) + "\n", encoding="utf-8")
    return [path, interface]


def _is_nested(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

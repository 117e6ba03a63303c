"""Changing the labels of a store: each change is kept beside it, and can be taken back.

::

    STORE/label_history/00001.parquet    id, before, after of each label that a change has touched

A change is written down first; then the items change, as a whole or not at all. One that was cut off in between is
found by its labels, which are those before it, and passes away with the next change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pyarrow as pa

from estitchup_pl.errors import DataError, StoreError
from estitchup_pl.locking import locked_folder
from estitchup_pl.store import EmbeddingStore, sealed
from estitchup_pl.store.relabeling import write_labels
from estitchup_pl.store.swap import finish_swap_of_another

HISTORY_NAME: Final = "label_history"
"""Folder of the changes, inside that of the store."""

_SCHEMA: Final = pa.schema({"id": pa.string(), "before": pa.string(), "after": pa.string()})


@dataclass(frozen=True)
class LabelChange:
    """One change of a store's labels.

    Attributes:
        number: Its number, from 1.
        when: Its time, ISO 8601 in UTC.
        source: Where the labels came from, such as a file.
        before: Label of each item before it, by id; ``None`` where there was none.
        after: Label of each item after it.
    """

    number: int
    when: str
    source: str
    before: Mapping[str, str | None]
    after: Mapping[str, str | None]

    def __str__(self) -> str:
        new = sum(before is None for before in self.before.values())
        removed = sum(after is None for after in self.after.values())
        counts = f"{new} new, {len(self.before) - new - removed} changed, {removed} removed"
        return f"{self.number}  {self.when}  {counts}  {self.source}"


def apply_labels(path: Path, labels: Mapping[str, str | None], source: str) -> LabelChange:
    """Give items of a store other labels, and write the change down.

    Args:
        path: Folder of the store.
        labels: New label of each item by id; ``None`` takes it away.
        source: Where they come from.

    Raises:
        DataError: If an item is not in the store, or no label would change.
        StoreError: If the folder is no store.
        WriteError: If it cannot be written to, or another command is writing there.
    """
    finish_swap_of_another(path)  # opening would wait for the lock that is held here
    with locked_folder(path):
        current = _labels(EmbeddingStore.open(path))
        for name in labels:
            if name not in current:
                raise DataError(f"{path}: there is no item with the id {name!r}")
        after = {name: label for name, label in labels.items() if label != current[name]}
        if not after:
            raise DataError(f"{path}: every one of these labels is there already")
        number = max((change.number for change in _applied(path, current)), default=0) + 1
        when = datetime.now(UTC).isoformat(timespec="seconds")
        change = LabelChange(number, when, source, {name: current[name] for name in after}, after)
        _write(path, change)
        write_labels(path, after)
        return change


def undo(path: Path) -> LabelChange:
    """Take the last change back; that is a change too, so nothing of the history is lost.

    Args:
        path: Folder of the store.

    Raises:
        DataError: If there is none.
        StoreError: If its labels are no longer those that it gave.
    """
    changes = label_history(path)
    taken_back = {int(change.source.split()[-1]) for change in changes if change.source.startswith(_UNDO)}
    left = [c for c in changes if c.number not in taken_back and not c.source.startswith(_UNDO)]
    if not left:
        raise DataError(f"{path}: there is no change of labels to take back")
    last, current = left[-1], _labels(EmbeddingStore.open(path))
    for name, label in last.after.items():
        if current.get(name) != label:
            raise StoreError(
                f"{path}: item {name!r} no longer has the label that change {last.number} gave it, so that change "
                "cannot be taken back; give the labels anew instead"
            )
    return apply_labels(path, last.before, f"{_UNDO} {last.number}")


def label_history(path: Path) -> list[LabelChange]:
    """Changes of a store's labels, the oldest first.

    Args:
        path: Folder of the store.

    Raises:
        StoreError: If the folder is no store, or a file of its history is damaged.
    """
    return list(_applied(path, _labels(EmbeddingStore.open(path))))


def with_changed_labels(path: Path, items: pa.Table) -> pa.Table:
    """Give a newer table of a store's items the labels that changes of the store have given.

    A label that is in the table what it was before those changes is what they have made of it; one that the table has
    changed itself is the table's.

    Args:
        path: Folder of the store.
        items: Table with ``id`` and ``label``; ``label`` may be null.

    Raises:
        StoreError: If the folder is no store, or a file of its history is damaged.
    """
    before: dict[str, str | None] = {}
    after: dict[str, str | None] = {}
    for change in label_history(path):
        before, after = {**change.before, **before}, {**after, **change.after}
    if not after:
        return items
    pairs = zip(items["id"].to_pylist(), items["label"].to_pylist(), strict=True)
    labels = [after[name] if name in after and label == before[name] else label for name, label in pairs]
    return items.set_column(items.schema.get_field_index("label"), "label", pa.array(labels, pa.string()))


_UNDO: Final = "takes back change"


def _applied(path: Path, current: Mapping[str, str | None]) -> Iterator[LabelChange]:
    files = sorted((path / HISTORY_NAME).glob("*.parquet"))
    for file in files:
        change = _read(file)
        cut_off = all(current.get(name) == label for name, label in change.before.items())
        if not (file == files[-1] and cut_off):
            yield change


def _labels(store: EmbeddingStore) -> dict[str, str | None]:
    ids, labels = (store.column(name).cast(pa.string()).to_pylist() for name in ("id", "label"))
    return dict(zip(ids, labels, strict=True))


def _write(path: Path, change: LabelChange) -> None:
    columns = [list(change.before), list(change.before.values()), list(change.after.values())]
    metadata = {"when": change.when, "source": change.source}
    table = pa.Table.from_arrays([pa.array(column, pa.string()) for column in columns], schema=_SCHEMA)
    file = path / HISTORY_NAME / f"{change.number:05d}.parquet"
    sealed.write_table(file, table.replace_schema_metadata(metadata))


def _read(file: Path) -> LabelChange:
    try:
        table = sealed.read_table(file)
        facts = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        ids, before, after = (table[name].to_pylist() for name in _SCHEMA.names)
        return LabelChange(
            int(file.stem),
            facts["when"],
            facts["source"],
            dict(zip(ids, before, strict=True)),
            dict(zip(ids, after, strict=True)),
        )
    except (OSError, KeyError, ValueError) as error:
        raise StoreError(f"{file}: no change of labels, or damaged ({error}); move it out of the folder") from error

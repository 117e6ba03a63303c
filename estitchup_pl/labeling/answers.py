"""Answers of people, held against the labels of a store before anything is written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from estitchup_pl.errors import DataError
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.tables import TableFile, check_column, read_items
from estitchup_pl.wording import counted


class Answer(NamedTuple):
    """What somebody said of an item.

    Attributes:
        id: Id of the item.
        label: Its class; ``None`` where the question was not answered.
    """

    id: str
    label: str | None


@dataclass(frozen=True)
class LabelChanges:
    """What answers would change in a store.

    Attributes:
        new: Label of each item that had none, by id.
        changed: Label before and after, by id.
        same: Ids whose label is confirmed.
        unanswered: Ids that nobody has answered.
        unknown: Ids that the store does not have.
        conflicts: Different labels that answers give to one item, by id; none of them is taken over.
        new_classes: Classes that no item of the store has yet, with the number of items that get it.
    """

    new: dict[str, str] = field(default_factory=dict)
    changed: dict[str, tuple[str, str]] = field(default_factory=dict)
    same: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    conflicts: dict[str, list[str]] = field(default_factory=dict)
    new_classes: dict[str, int] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, str]:
        """Every label that is to be written, by id."""
        return self.new | {name: after for name, (_, after) in self.changed.items()}

    def __str__(self) -> str:
        counts = [
            f"{counted(len(self.new), 'label')} new",
            f"{len(self.changed)} changed",
            f"{len(self.same)} confirmed",
            f"{counted(len(self.new_classes), 'class', 'classes')} new",
        ]
        lines = [", ".join(counts)]
        lines += [f"new class {name!r}: {counted(items, 'item')}" for name, items in self.new_classes.items()]
        lines += [f"changed {name!r}: {before!r} becomes {after!r}" for name, (before, after) in self.changed.items()]
        lines += [f"conflict {name!r}: {' or '.join(map(repr, found))}" for name, found in self.conflicts.items()]
        for text, names in (("not in the store", self.unknown), ("not answered", self.unanswered)):
            if names:
                lines.append(f"{text}: {len(names)} ({', '.join(map(repr, names[:5]))}{', …' * (len(names) > 5)})")
        return "\n".join(lines)


def compare_answers(store: EmbeddingStore, answers: Iterable[Answer]) -> LabelChanges:
    """Hold answers against the labels of a store.

    Args:
        store: The store.
        answers: In any order; an item may be answered several times.

    Raises:
        DataError: If an answer is "none".

    Example:
        >>> import numpy as np, pyarrow as pa
        >>> items = pa.table({"id": ["a", "b", "c"], "label": [None, "hat", "hat"]})
        >>> store = EmbeddingStore.from_arrays(items, {"title": np.eye(3, dtype=np.float16)})
        >>> print(compare_answers(store, [Answer("a", "hat"), Answer("b", "shoe"), Answer("d", "hat")]))
        1 label new, 1 changed, 0 confirmed, 1 class new
        new class 'shoe': 1 item
        changed 'b': 'hat' becomes 'shoe'
        not in the store: 1 ('d')
    """
    ids, labels = (store.column(name).cast("string").to_pylist() for name in ("id", "label"))
    before = dict(zip(ids, labels, strict=True))
    given: dict[str, list[str]] = {}
    for answer in answers:
        if answer.label == "none":
            raise DataError(
                f'item {answer.id!r} is answered "none", which is what the classifier says for unknown items and no '
                "class to train on: leave the answer empty, or name a class"
            )
        found = given.setdefault(answer.id, [])
        if answer.label is not None and answer.label not in found:
            found.append(answer.label)
    changes, known = LabelChanges(), {label for label in labels if label is not None}
    for name, found in given.items():
        if name not in before:
            changes.unknown.append(name)
        elif not found:
            changes.unanswered.append(name)
        elif len(found) > 1:
            changes.conflicts[name] = found
        elif (old := before[name]) == found[0]:
            changes.same.append(name)
        elif old is None:
            changes.new[name] = found[0]
        else:
            changes.changed[name] = (old, found[0])
    for label in changes.labels.values():
        if label not in known:
            changes.new_classes[label] = changes.new_classes.get(label, 0) + 1
    return changes


def read_table(path: Path, id_column: str = "id", label_column: str = "label") -> list[Answer]:
    """Read answers from a table: CSV, parquet or JSON lines.

    Args:
        path: The file.
        id_column: Column of the items' ids.
        label_column: Column of their classes, empty where nobody has answered.

    Raises:
        ConfigError: If a column is not there; the nearest name is offered.
        DataError: If the file cannot be read, or a row has no id.
    """
    table = read_items(TableFile(path), str(path))
    for column, option in ((id_column, "id"), (label_column, "label")):
        check_column(column, option, table.column_names, str(path))
    ids, labels = (table[column].cast("string").to_pylist() for column in (id_column, label_column))
    if None in ids:
        raise DataError(f"{path}: row {ids.index(None)} has no id in the column {id_column!r}")
    return [Answer(name, (label or "").strip() or None) for name, label in zip(ids, labels, strict=True)]

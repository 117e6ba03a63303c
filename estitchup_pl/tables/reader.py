"""What every reader of a catalogue is: a source of items, read in batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pyarrow as pa

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.store import name_hint

BATCH_ROWS: Final = 1024
"""Rows that the readers hand on at a time."""


class ItemReader(ABC):
    """A source of items. Subclass it and name it in YAML for a layout of your own; one method to write.

    All readers keep one rule: what a file writes as text stays that text, and a value is null only where the file
    says so.

    Attributes:
        file_roots: For columns that are known to hold paths what they are relative to: a folder or a zip file.
    """

    file_roots: Mapping[str, Path] = MappingProxyType({})

    @abstractmethod
    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the items in a fixed order, in batches of one and the same schema.

        Raises:
            DataError: For what cannot be read, naming file and row.
        """


def read_items(reader: ItemReader, where: str, keep: Collection[str] = ()) -> pa.Table:
    """Read all items into one table; columns of whole files, such as pictures, stay out.

    Args:
        reader: Where the items come from.
        where: What messages call it.
        keep: Columns that stay whatever they hold.

    Raises:
        DataError: For what cannot be read, and for no rows at all.
    """
    batches = [
        batch.select([at for at, field in enumerate(batch.schema) if field.name in keep or not holds_files(field.type)])
        for batch in reader.batches()
    ]
    if not sum(batch.num_rows for batch in batches):
        raise DataError(f"{where}: the table has no rows; a store needs at least one item")
    return pa.Table.from_batches(batches)


def kept_columns(names: Sequence[str], drop: Collection[str], where: Path | str) -> list[int]:
    """Positions of the columns that are not dropped.

    Raises:
        ConfigError: If a column to drop is not there (the nearest name is offered).
        DataError: If two of the others have the same name.

    Example:
        >>> kept_columns(["id", "brand", "brand"], ["brand"], "items.csv")
        [0]
    """
    for name in drop:
        if name not in names:
            raise ConfigError(f"drop: {where} has no column {name!r}{name_hint(name, names)}")
    kept = [at for at, name in enumerate(names) if name not in drop]
    for at in kept:
        if names[at] in names[:at]:
            raise DataError(
                f"{where}: column {names[at]!r} is there more than once. "
                f"Rename one of them, or leave them out (drop {names[at]})."
            )
    return kept


def holds_files(kind: pa.DataType) -> bool:
    """Whether cells of this type hold whole files: bytes, or ``{bytes, path}`` as Hugging Face writes them.

    Example:
        >>> holds_files(pa.struct({"bytes": pa.binary(), "path": pa.string()})), holds_files(pa.string())
        (True, False)
    """
    if pa.types.is_struct(kind):
        return any(holds_files(kind.field(index).type) for index in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))

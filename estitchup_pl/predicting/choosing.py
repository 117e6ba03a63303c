"""Which items of a table or a store are to be decided about."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from estitchup_pl.data import EmbeddingDataModule
from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.store.labels import Rows
from estitchup_pl.tables import ItemReader, TableFile, check_column

RowsOf = Literal["all", "unlabelled", "test"]


@dataclass(frozen=True)
class Choice:
    """Which items are wanted, by their ids.

    Attributes:
        only: Ids of the items that are wanted; ``None`` for all.
        without: Ids that are not wanted, of items decided about before.
    """

    only: Collection[str] | None = None
    without: Collection[str] = frozenset()

    @classmethod
    def of(cls, ids: Sequence[str] = (), since: str | Path | None = None) -> Choice:
        """Make the choice of a call.

        Args:
            ids: Ids, or a single file of them, see :func:`read_ids`.
            since: File of earlier predictions, whose items are left out.

        Raises:
            ConfigError: If a file is not there, or has no ids.
            DataError: If it cannot be read.
        """
        if len(ids) == 1 and Path(ids[0]).is_file():
            ids = read_ids(ids[0])
        return cls(frozenset(ids) if ids else None, frozenset(read_ids(since)) if since else frozenset())

    @property
    def is_everything(self) -> bool:
        """Whether no item is left out."""
        return self.only is None and not self.without

    def wanted(self, ids: pa.ChunkedArray | pa.Array) -> pa.Array:
        """Whether each of these ids, text, is wanted."""
        known = pa.array(np.ones(len(ids), np.bool_))
        if self.only is not None:
            known = pc.is_in(ids, value_set=pa.array(sorted(self.only), pa.string()))
        return pc.and_(known, pc.invert(pc.is_in(ids, value_set=pa.array(sorted(self.without), pa.string()))))

    def rows(self, data: EmbeddingDataModule, kind: RowsOf) -> Rows:
        """Rows of a store that are wanted, in its order.

        Args:
            data: The store.
            kind: Its rows, those without a label, or those that the split of the model's fit tests on.

        Raises:
            ConfigError: If an id is not there.
        """
        ids = data.store.column("id").cast(pa.string())
        self.refuse_strangers(ids, "the store")
        wanted: Rows = np.flatnonzero(self.wanted(ids).to_numpy(zero_copy_only=False))
        if kind == "all":
            return wanted
        return np.intersect1d(wanted, data.labels.unlabelled if kind == "unlabelled" else data.parts.test)

    def refuse_strangers(self, ids: pa.ChunkedArray | pa.Array, where: str) -> None:
        """Raise :class:`ConfigError` for an id that is asked for and not there."""
        strangers = sorted(set(self.only) - set(ids.to_pylist())) if self.only else []
        if strangers:
            more = f" and {len(strangers) - 3} more" if len(strangers) > 3 else ""
            raise ConfigError(f"ids: {where} has no item {', '.join(map(repr, strangers[:3]))}{more}")


class ChosenItems(ItemReader):
    """The items of another reader that a choice wants.

    Args:
        reader: The other reader.
        column: Its column of ids.
        choice: The choice.
    """

    def __init__(self, reader: ItemReader, column: str, choice: Choice) -> None:
        self.file_roots = reader.file_roots
        self._reader = reader
        self._column = column
        self._choice = choice

    @override
    def batches(self) -> Iterator[pa.RecordBatch]:
        for batch in self._reader.batches():
            check_column(self._column, "id", batch.schema.names, "items")
            yield batch.filter(self._choice.wanted(batch.column(self._column).cast(pa.string())))


def read_ids(path: str | Path) -> list[str]:
    r"""Read ids: the column ``id`` of a table, such as earlier predictions, or the lines of any other file.

    Raises:
        ConfigError: If there is no file, or its table has no column ``id``.
        DataError: If it cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     place = Path(folder, "ids.csv")
        ...     _ = place.write_text("id,predicted\n7,hat\n8,none\n")
        ...     read_ids(place)
        ['7', '8']
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file")
    if path.suffix in (".txt", ""):
        try:
            return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read as text in UTF-8 ({error})") from error
    ids: list[Any] = []
    for batch in TableFile(path).batches():
        check_column("id", "ids", batch.schema.names, str(path))
        ids += batch.column("id").cast(pa.string()).to_pylist()
    return ids

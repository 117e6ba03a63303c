"""The input table on local disk: checked once, read in any order and by every process, never held in memory."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from estitchup_pl.embed.modality import Modality
from estitchup_pl.errors import DataError
from estitchup_pl.store import flag_column
from estitchup_pl.store.files import atomic_path
from estitchup_pl.tables import ItemReader, check_column, prepare_items

_BATCH_ROWS: Final = 256
_TAKE_ROWS: Final = 4096

Digests = dict[str, npt.NDArray[np.uint64]]
"""For each modality a digest ``(rows,)`` of every row's id and value."""


class StagedItems:
    """The staged table, an Arrow file with small record batches.

    Args:
        path: File written by :func:`stage_items`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with pa.ipc.open_file(str(path)) as file:
            self._names = file.schema.names
            batches = file.num_record_batches
            last = file.get_batch(batches - 1).num_rows if batches else 0
        self.rows = max(batches - 1, 0) * _BATCH_ROWS + last

    def reader(self, column: str) -> Callable[[int, int], list[Any]]:
        """Return the function that reads the cells of rows ``start`` to ``stop - 1``; threads may share it."""
        fields = pa.ipc.IpcReadOptions(included_fields=[self._names.index(column)])
        file = pa.ipc.open_file(str(self._path), options=fields)

        def read(start: int, stop: int) -> list[Any]:
            cells: list[Any] = []
            for index in range(start // _BATCH_ROWS, -(-stop // _BATCH_ROWS)):
                first = index * _BATCH_ROWS
                cells += file.get_batch(index).column(0)[max(start - first, 0) : stop - first].to_pylist()
            return cells

        return read

    def table(self) -> pa.Table:
        """The whole table, mapped from disk."""
        return pa.ipc.open_file(pa.memory_map(str(self._path))).read_all()


def stage_items(
    reader: ItemReader, id_column: str, label_column: str | None, modalities: Mapping[str, Modality], path: Path
) -> Digests:
    """Copy the input table to ``path``, with columns ``id`` and ``label`` as a store has them, and digest the inputs.

    Returns:
        The digests of every modality's inputs.

    Raises:
        ConfigError: For a column that the table does not have, or two that want the same name.
        DataError: For a table without rows, ids that are missing or not unique, or ids or labels that are no names.
    """
    digests = {name: array("Q") for name in modalities}
    id_digests = array("Q")
    batches = _named(reader.batches(), id_column, label_column, modalities)
    first = next(batches, None)
    if first is None:
        raise DataError("items: the input table has no rows")
    with atomic_path(path) as temporary, pa.ipc.new_file(str(temporary), first.schema) as file:
        for batch in _rebatched(_chain(first, batches)):
            file.write_batch(batch)
            ids = batch.column("id").to_pylist()
            if None in ids:
                raise DataError(f"items: row {len(id_digests) + ids.index(None)} has no id; every item needs one")
            id_digests.extend(_digest(identifier, None) for identifier in ids)
            for name, modality in modalities.items():
                values = map(modality.value, batch.column(modality.column).to_pylist())
                digests[name].extend(map(_digest, ids, values))
    _refuse_repeated_ids(np.frombuffer(id_digests, dtype=np.uint64), StagedItems(path))
    return {name: np.frombuffer(rows, dtype=np.uint64) for name, rows in digests.items()}


def reorder_items(path: Path, order: npt.NDArray[np.int64]) -> None:
    """Write the staged table anew with its rows in another order; row ``i`` becomes the old ``order[i]``."""
    table = StagedItems(path).table()
    pieces = (table.take(pa.array(order[at : at + _TAKE_ROWS])) for at in range(0, len(order), _TAKE_ROWS))
    batches = (batch for piece in pieces for batch in piece.combine_chunks().to_batches())
    with atomic_path(path) as temporary, pa.ipc.new_file(str(temporary), table.schema) as file:
        for batch in _rebatched(batches):
            file.write_batch(batch)


def _named(
    batches: Iterator[pa.RecordBatch], id_column: str, label_column: str | None, modalities: Mapping[str, Modality]
) -> Iterator[pa.RecordBatch]:
    """Name the columns as a store does; pass over empty batches."""
    dropped = {flag_column(name) for name in modalities}
    for batch in batches:
        if batch.num_rows == 0:
            continue
        for name, modality in modalities.items():
            check_column(modality.column, f"modalities.{name}.column", batch.schema.names, "items")
        kept = batch.select([at for at, name in enumerate(batch.schema.names) if name not in dropped])
        items = prepare_items(pa.Table.from_batches([kept]), "items", id_column=id_column, label_column=label_column)
        columns = {name: _plain(items[name]) for name in items.column_names}
        yield pa.RecordBatch.from_pydict(columns, metadata=items.schema.metadata)


def _refuse_repeated_ids(digests: npt.NDArray[np.uint64], items: StagedItems) -> None:
    """Find equal ids by their digests: eight bytes an item, where the ids themselves would take many."""
    ordered = np.sort(digests)
    if not (ordered[1:] == ordered[:-1]).any():
        return
    order = np.argsort(digests, kind="stable")
    equal = np.flatnonzero(digests[order[1:]] == digests[order[:-1]])
    read = items.reader("id")
    for first, second in sorted((int(order[at]), int(order[at + 1])) for at in equal):
        identifier = read(second, second + 1)[0]
        if read(first, first + 1)[0] == identifier:
            raise DataError(
                f"items: id {identifier!r} is there twice, in rows {first} and {second}; ids must be unique. "
                "Remove one of the rows, or choose another id column."
            )


def _plain(column: pa.ChunkedArray) -> pa.Array:
    """Undo dictionary encoding: an Arrow file cannot change a dictionary from batch to batch."""
    values = column.combine_chunks()
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _chain(first: pa.RecordBatch, rest: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest


def _rebatched(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Cut and join batches so that all but the last have ``_BATCH_ROWS`` rows."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        while sum(part.num_rows for part in waiting) >= _BATCH_ROWS:
            joined = pa.concat_batches(waiting)
            yield joined.slice(0, _BATCH_ROWS)
            waiting = [joined.slice(_BATCH_ROWS)]
    if sum(part.num_rows for part in waiting):
        yield pa.concat_batches(waiting)


def _digest(identifier: Any, value: Any) -> int:
    content = hashlib.blake2b(str(identifier).encode() + b"\x1f", digest_size=8)
    content.update(type(value).__name__.encode() + b"\x1f")
    content.update(value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass"))
    return int.from_bytes(content.digest(), "little")

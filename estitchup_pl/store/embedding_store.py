"""Reading a store: constant-time opening, shards mapped when touched, whole batches gathered at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from estitchup_pl.errors import StoreError
from estitchup_pl.store.creation import write_store
from estitchup_pl.store.files import ITEMS_NAME, ModalityInfo, StoreHeader, read_header, shard_path
from estitchup_pl.store.items import flags_from_items, nearest_name, normalize_items, with_flags
from estitchup_pl.store.sources import ArraySource, RowSource, checked_blocks, describe_source
from estitchup_pl.store.verification import open_shard, verify_items, verify_modality

_MAX_MAPPED_SHARDS: Final = 256
"""A mapped file holds a file descriptor, of which a process often has 1024."""

_GATHER_ROWS: Final = 8192
"""Rows copied at a time, which bounds the memory that a gather takes beside its result."""


class EmbeddingStore:
    """Embeddings of several modalities and the table of their items, on disk or in memory. Read-only.

    Open one with :meth:`open`, make one with :meth:`create` or :meth:`from_arrays`. Threads may gather from one
    store at the same time. A store on disk is pickled as its path.

    Attributes:
        path: Folder of the store; ``None`` for one in memory.
        modalities: Description of each modality by name, in the store's order.

    Example:
        >>> items = pa.table({"id": ["a", "b", "c"], "label": ["shoe", None, "hat"]})
        >>> store = EmbeddingStore.from_arrays(items, {"title": np.eye(3, 2, dtype=np.float16)})
        >>> len(store), store.modalities["title"].dim
        (3, 2)
        >>> store.gather([1, 0, 1]).tolist()
        [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
        >>> store.column("has_title").to_pylist()
        [True, True, False]
    """

    def __init__(
        self,
        header: StoreHeader,
        load_shard: Callable[[str, int], npt.NDArray[Any]],
        *,
        path: Path | None = None,
        items: pa.Table | None = None,
    ) -> None:
        self.path = path
        self.modalities: dict[str, ModalityInfo] = dict(header.modalities)
        self._header = header
        self._load_shard = load_shard
        self._items = items
        self._shards: OrderedDict[tuple[str, int], npt.NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path | str) -> EmbeddingStore:
        """Open the store in folder ``path``, in a time that does not depend on its rows.

        Raises:
            StoreError: If the folder is no store, or its header is damaged or of a newer version.
        """
        root = Path(path)
        header = read_header(root)
        return cls(header, lambda modality, index: open_shard(root, header, modality, index), path=root)

    @classmethod
    def create(
        cls,
        path: Path | str,
        items: pa.Table,
        embeddings: Mapping[str, npt.ArrayLike | RowSource],
        *,
        info: Mapping[str, ModalityInfo] | None = None,
        rows_per_shard: int = 65536,
        progress: bool = False,
        overwrite: bool = False,
    ) -> EmbeddingStore:
        """Write a store to folder ``path`` and open it. After any failure the folder is what it was before.

        Args:
            path: Folder to write: a new or empty one, or one where an earlier attempt was cut off.
            items: One row an item: ``id`` (unique), optional ``label``, ``split``, ``has_<modality>`` (derived
                where missing: an all-zero row lacks the modality), and any further columns.
            embeddings: For each modality ``(rows, dim)`` in the order of ``items``; read in blocks, so arrays may
                be mapped and larger than memory. float16 and float32 stay what they are, float64 becomes float32.
            info: Description of some or all modalities; its ``dtype`` decides how they are stored.
            rows_per_shard: Rows in one file.
            progress: Show a progress bar.
            overwrite: Write into a folder that has a store or other files; replaces what belongs to a store
                once the new one is whole, and nothing else.

        Raises:
            StoreError: For input that does not fit together (message: file, row, what to do), or a folder in use.
        """
        root = Path(path)
        write_store(root, items, embeddings, info or {}, rows_per_shard, progress=progress, overwrite=overwrite)
        return cls.open(root)

    @classmethod
    def from_arrays(
        cls,
        items: pa.Table,
        embeddings: Mapping[str, npt.ArrayLike],
        info: Mapping[str, ModalityInfo] | None = None,
    ) -> EmbeddingStore:
        """Make a store in memory, with the checks of :meth:`create`.

        Arrays of float16 or float32 are kept as they are, without a copy; the store never writes into them.
        """
        table, rows = normalize_items(items), items.num_rows
        flags = flags_from_items(table, embeddings, "items")
        described, arrays = {}, {}
        for name, values in embeddings.items():
            source = ArraySource(values, f"embeddings[{name!r}]")
            described[name] = describe_source(source, rows, (info or {}).get(name))
            blocks = list(checked_blocks(source, 0, rows, described[name].dtype, flags.get(name)))
            flags[name] = np.concatenate([present for _, present in blocks])
            arrays[name] = np.asarray(values, dtype=described[name].dtype)
        header = StoreHeader(rows, rows, described)
        return cls(header, _Resident(arrays), items=with_flags(table, flags))

    def __len__(self) -> int:
        return self._header.rows

    def __repr__(self) -> str:
        modalities = ", ".join(f"{name}: {info.dim} {info.dtype}" for name, info in self.modalities.items())
        return f"EmbeddingStore({self.path or 'in memory'}, {len(self)} rows, {modalities})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.path is not None:
            return EmbeddingStore.open, (self.path.absolute(),)
        return _rebuild, (self._header, self._load_shard, self._items)

    @property
    def items(self) -> pa.Table:
        """Table of the items, in row order; read when first asked for. See :meth:`column` for single columns."""
        if self._items is None:
            self._items = self._read_items(None)
        return self._items

    @property
    def column_names(self) -> list[str]:
        """Names of the columns of :attr:`items`; reads no rows."""
        if self._items is not None:
            return list(self._items.column_names)
        return list(self._parquet().schema_arrow.names)

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of :attr:`items`, without reading the others.

        Raises:
            StoreError: If there is no such column (the nearest name is offered).
        """
        if name not in self.column_names:
            raise StoreError(f"{self._name()} has no column {name!r}. {nearest_name(name, self.column_names)}")
        return self._items[name] if self._items is not None else self._read_items([name])[name]

    def gather(
        self, rows: npt.ArrayLike, modalities: Sequence[str] | None = None
    ) -> npt.NDArray[np.float16] | npt.NDArray[np.float32]:
        """Copy rows, in any order and with repeats, into one new array.

        Reads shard by shard in the order of the files, whatever the order of ``rows``.

        Args:
            rows: Row numbers ``(count,)`` from 0 to ``len(self) - 1``.
            modalities: Which modalities, side by side in this order; ``None`` for all in the store's order.

        Returns:
            ``(count, sum of dims)``: float16 if every modality is float16, float32 otherwise.

        Raises:
            StoreError: For a row out of range, an unknown modality (nearest name offered) or a damaged shard.
        """
        names = self._check_modalities(modalities)
        numbers = self._check_rows(rows)
        dims = [self.modalities[name].dim for name in names]
        dtype = np.result_type(*(np.dtype(self.modalities[name].dtype) for name in names))
        out = np.empty((len(numbers), sum(dims)), dtype)
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        shards = ordered // self._header.rows_per_shard
        edges = np.union1d(np.flatnonzero(np.diff(shards)) + 1, np.arange(0, len(ordered), _GATHER_ROWS))
        pieces = np.split(np.arange(len(ordered)), edges[edges > 0]) if len(ordered) else []
        for piece in pieces:
            index = int(shards[piece[0]])
            local, target = ordered[piece] - index * self._header.rows_per_shard, order[piece]
            stop = 0
            for name, dim in zip(names, dims, strict=True):
                start, stop = stop, stop + dim
                out[target, start:stop] = self._shard(name, index)[local]
        return out

    def verify(self, *, progress: bool = False) -> None:
        """Read everything and compare it with the format.

        Raises:
            StoreError: On the first defect, naming file and row: a missing, truncated or foreign shard, NaN or
                infinity, repeated ids, wrong counts of rows, ``has_`` flags that contradict the rows.
        """
        flags = verify_items(self.items, self._header, self._items_name())
        with tqdm(total=len(self) * len(self.modalities), unit="row", disable=not progress) as bar:
            for name in self.modalities:
                verify_modality(self._header, name, flags[name], self.path, self._load_shard, bar.update)

    def _shard(self, modality: str, index: int) -> npt.NDArray[Any]:
        key = (modality, index)
        with self._lock:
            if key in self._shards:
                self._shards.move_to_end(key)
                return self._shards[key]
            shard = self._shards[key] = self._load_shard(modality, index)
            if len(self._shards) > _MAX_MAPPED_SHARDS:
                self._shards.popitem(last=False)
            return shard

    def _check_modalities(self, modalities: Sequence[str] | None) -> list[str]:
        names = list(self.modalities) if modalities is None else list(modalities)
        for name in names:
            if name not in self.modalities:
                raise StoreError(
                    f"{self._name()} has no modality {name!r}. {nearest_name(name, self.modalities)}"
                )
        if not names:
            raise StoreError(f"expected at least one modality of {', '.join(self.modalities)}, got none")
        return names

    def _check_rows(self, rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
        numbers = np.asarray(rows)
        if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
            raise StoreError(
                f"expected row numbers of shape (count,), got shape {numbers.shape} of type {numbers.dtype}"
            )
        numbers = numbers.astype(np.int64, copy=False)
        if numbers.size and (numbers.min() < 0 or numbers.max() >= len(self)):
            wrong = numbers[(numbers < 0) | (numbers >= len(self))][0]
            raise StoreError(f"{self._name()} has rows 0 to {len(self) - 1}, got row {wrong}")
        return numbers

    def _name(self) -> str:
        return f"store {self.path}" if self.path is not None else "the store in memory"

    def _items_name(self) -> str:
        return str(self.path / ITEMS_NAME) if self.path is not None else "items"

    def _parquet(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self._items_name())
        except (OSError, pa.ArrowException) as error:
            raise StoreError(
                f"{self._items_name()}: cannot be read ({error}). Restore it from a copy."
            ) from error

    def _read_items(self, columns: list[str] | None) -> pa.Table:
        with self._parquet() as file:
            if file.metadata.num_rows != len(self):
                raise StoreError(
                    f"{self._items_name()}: {file.metadata.num_rows} rows, the store's header says {len(self)}"
                )
            try:
                return file.read(columns=columns)
            except (OSError, pa.ArrowException) as error:
                raise StoreError(f"{self._items_name()}: damaged ({error}). Restore it from a copy.") from error


class _Resident:
    """Loader of the one shard that each modality of a store in memory has."""

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._arrays = dict(arrays)

    def __call__(self, modality: str, index: int) -> npt.NDArray[Any]:
        return self._arrays[modality]


def _rebuild(header: StoreHeader, load_shard: _Resident, items: pa.Table) -> EmbeddingStore:
    return EmbeddingStore(header, load_shard, items=items)

"""Reading a store: constant-time opening, shards mapped when touched, whole batches gathered at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from tqdm import tqdm

from estitchup_pl.errors import StoreError
from estitchup_pl.store.blocks import checked_blocks, describe_source
from estitchup_pl.store.creation import write_store
from estitchup_pl.store.files import DAMAGE, ITEMS_NAME, shard_name, shard_path
from estitchup_pl.store.header import ModalityInfo, StoreHeader, read_header
from estitchup_pl.store.items import (
    check_content,
    flags_from_items,
    has_integer_ids,
    name_hint,
    normalize_items,
    with_flags,
)
from estitchup_pl.store.shards import MappedShards, ResidentShards, Shards, chunks
from estitchup_pl.store.sources import ArraySource, RowSource
from estitchup_pl.store.swap import finish_swap_of_another
from estitchup_pl.store.verification import required_columns, verify_digest, verify_items, verify_modality


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
        self, header: StoreHeader, shards: Shards, *, path: Path | None = None, items: pa.Table | None = None
    ) -> None:
        self.path = path
        self.modalities: dict[str, ModalityInfo] = dict(header.modalities)
        self._header = header
        self._shards = shards
        self._items = items

    @classmethod
    def open(cls, path: Path | str, *, verify: bool = False) -> EmbeddingStore:
        """Open the store in folder ``path``, in a time that does not depend on its rows.

        A creation that was cut off while it put the store in place is finished first.

        Args:
            path: The folder.
            verify: Read every file first, as :meth:`verify` does.

        Raises:
            StoreError: If the folder is no store, or its header is damaged or of another version; with ``verify``
                also for any other damage.
        """
        root = Path(path)
        finish_swap_of_another(root)
        header = read_header(root)
        store = cls(header, MappedShards(root, header), path=root)
        if verify:
            store.verify()
        return store

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
        items_name: str = "items",
    ) -> EmbeddingStore:
        """Write a store to folder ``path`` and open it. After any failure the folder is what it was before.

        Args:
            path: Folder to write: a new or empty one, or one where an earlier attempt was cut off.
            items: One row an item: ``id`` (unique), optional ``label``, ``split``, ``has_<modality>`` (derived
                where missing: an all-zero row lacks the modality), and any further columns.
            embeddings: For each modality ``(rows, dim)`` in the order of ``items``; read in blocks, so arrays
                may be mapped and larger than memory. float16 and float32 stay what they are, float64 becomes
                float32.
            info: Description of some or all modalities; its ``dtype`` decides how they are stored.
            rows_per_shard: Rows in one file.
            progress: Show a progress bar.
            overwrite: Write into a folder that has a store or other files; replaces what belongs to a store
                once the new one is whole, and nothing else.
            items_name: What messages call the table, e.g. its file.

        Raises:
            StoreError: For input that does not fit together (the message names file and row), or a folder in use.
            WriteError: If the disk is full or read-only, or another command is writing to the folder.
        """
        root = Path(path)
        write_store(
            root,
            items,
            embeddings,
            info or {},
            rows_per_shard,
            progress=progress,
            overwrite=overwrite,
            items_name=items_name,
        )
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
            blocks = checked_blocks(source, 0, rows, described[name].dtype, flags.get(name))
            flags[name] = np.concatenate([present for _, present in blocks])
            arrays[name] = np.asarray(source.array, dtype=described[name].dtype)
        header = StoreHeader(rows, rows, described, integer_ids=has_integer_ids(items))
        return cls(header, ResidentShards(arrays), items=with_flags(table, flags))

    def __len__(self) -> int:
        return self._header.rows

    def __repr__(self) -> str:
        modalities = ", ".join(f"{name}: {info.dim} {info.dtype}" for name, info in self.modalities.items())
        return f"EmbeddingStore({self.path or 'in memory'}, {len(self)} rows, {modalities})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.path is not None:
            return EmbeddingStore.open, (self.path.absolute(),)
        return _rebuild, (self._header, self._shards, self._items)

    def digest(self, modalities: Iterable[str]) -> str:
        """Digest of all embeddings of these modalities, from those in the header; empty for a store in memory."""
        folders = tuple(f"embeddings/{name}/" for name in modalities)
        files = sorted((file, digest) for file, digest in self._header.digests.items() if file.startswith(folders))
        return xxhash.xxh3_128_hexdigest(repr(files).encode()) if files else ""

    @property
    def items(self) -> pa.Table:
        """Table of the items, in row order, read when first asked for; :meth:`column` reads less."""
        if self._items is None:
            self._items = self._read_items(None)
        return self._items

    @property
    def column_names(self) -> list[str]:
        """Names of the columns of :attr:`items`; reads no rows."""
        if self._items is not None:
            return list(self._items.column_names)
        with self._parquet() as file:
            return list(file.schema_arrow.names)

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of :attr:`items`, without reading the others.

        Raises:
            StoreError: If there is no such column (the nearest name is offered).
        """
        if name not in self.column_names:
            raise StoreError(f"{self._name()} has no column {name!r}{name_hint(name, self.column_names)}")
        return self._items[name] if self._items is not None else self._read_items([name])[name]

    def gather(
        self, rows: npt.ArrayLike, modalities: Sequence[str] | None = None
    ) -> npt.NDArray[np.float16] | npt.NDArray[np.float32]:
        """Copy rows, in any order and with repeats, into one new array.

        Reads in the order of the files, shard by shard, whatever the order of ``rows``.

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
        dim = sum(self.modalities[name].dim for name in names)
        dtype = np.result_type(*(np.dtype(self.modalities[name].dtype) for name in names))
        out = np.empty((len(numbers), dim), dtype)
        for chunk, places in chunks(numbers, in_file_order=self._shards.in_file_order):
            stop = 0
            for taken in self._shards.take(names, chunk):
                start, stop = stop, stop + taken.shape[1]
                out[places, start:stop] = taken
        return out

    def verify(self, *, progress: bool = False) -> None:
        """Read everything, compare it with the format and every file's bytes with their digest.

        Raises:
            StoreError: On the first defect, naming file and row: a missing, truncated or foreign shard, NaN or
                infinity, repeated ids, text that is not UTF-8, wrong counts of rows, ``has_`` flags that contradict
                the rows, a file that has changed since it was written.
        """
        shards = {name: [shard_name(name, k) for k in range(self._header.shards)] for name in self.modalities}
        self._verify_bytes([ITEMS_NAME])  # before a library is let loose on them
        flags = verify_items(self._verified_columns(), self._header, self._items_name())
        with tqdm(total=len(self) * len(self.modalities), unit="row", disable=not progress) as bar:
            for name in self.modalities:
                verify_modality(self._header, name, flags[name], self._shards, bar.update)
                self._verify_bytes(shards[name])
        self._verify_bytes(self._header.digests.keys() - {ITEMS_NAME}.union(*shards.values()))

    @property
    def ids(self) -> pa.ChunkedArray:
        """Ids of the items in the type that they have where they come from: text, or whole numbers (int64)."""
        ids = self.column("id").cast(pa.string())
        return ids.cast(pa.int64()) if self._header.integer_ids else ids

    def bytes_on_disk(self, modality: str) -> int:
        """Size of the files of one modality; 0 in memory."""
        if self.path is None:
            return 0
        paths = (shard_path(self.path, modality, index) for index in range(self._header.shards))
        return sum(path.stat().st_size for path in paths if path.exists())

    def _verify_bytes(self, files: Iterable[str]) -> None:
        if self.path is not None:
            for file in files:
                verify_digest(self.path, self._header, self.path / file)

    def _check_modalities(self, modalities: Sequence[str] | None) -> list[str]:
        if isinstance(modalities, str):
            raise StoreError(f"expected a sequence of modalities, got the text {modalities!r}; pass [{modalities!r}]")
        names = list(self.modalities) if modalities is None else list(modalities)
        for name in names:
            if name not in self.modalities:
                raise StoreError(f"{self._name()} has no modality {name!r}{name_hint(name, self.modalities)}")
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
            file = pq.ParquetFile(self._items_name())
            _ = file.schema_arrow.names  # of a damaged file they may be no text
        except DAMAGE as error:
            raise self._unreadable(error) from error
        return file

    def _read_items(self, columns: list[str] | None) -> pa.Table:
        with self._parquet() as file:
            if file.metadata.num_rows != len(self):
                raise StoreError(
                    f"{self._items_name()}: {file.metadata.num_rows} rows, the store's header says {len(self)}"
                )
            try:
                table = file.read(columns=columns)
                table.validate(full=True)  # texts are text, and lists end within their values
            except DAMAGE as error:
                raise self._unreadable(error) from error
        return table

    def _verified_columns(self) -> pa.Table:
        """Read the whole table once, a part at a time, to see that it can be; keep the required columns."""
        if self._items is not None:
            return self._items
        try:
            with pq.ParquetFile(self._items_name(), page_checksum_verification=True) as file:
                first = 0
                for batch in file.iter_batches(batch_size=8192):
                    check_content(pa.Table.from_batches([batch]), self._items_name(), first)
                    first += batch.num_rows
        except StoreError:
            raise
        except DAMAGE as error:
            raise self._unreadable(error) from error
        return self._read_items([name for name in required_columns(self._header) if name in self.column_names])

    def _unreadable(self, error: Exception) -> StoreError:
        return StoreError(f"{self._items_name()}: cannot be read ({error}). Restore the file from a copy.")


def _rebuild(header: StoreHeader, shards: ResidentShards, items: pa.Table) -> EmbeddingStore:
    return EmbeddingStore(header, shards, items=items)

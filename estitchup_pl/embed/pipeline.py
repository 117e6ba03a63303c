"""From units of work to batches: read, prepare in threads ahead of the encoder, put like lengths together.

What is in a batch is a function of its shard alone, never of what was done before, so that a resumed run gives
the very numbers of an uninterrupted one.
"""

from __future__ import annotations

import copy
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from estitchup_pl.embed.embedder import Embedder, Prepared
from estitchup_pl.embed.workspace import Note, Unit
from estitchup_pl.errors import ConfigError, DataError

ReadValues = Callable[[int, int], list[Any]]


@dataclass(frozen=True)
class Feed:
    """Where the values of one modality come from, and how they become batches.

    Attributes:
        embedder: Prepares and collates the values.
        read_values: Reads the values of a range of rows.
        read_file: Reads the file that a value names; ``None`` if values are used as they are.
        batch_size: Values in a batch.
    """

    embedder: Embedder
    read_values: ReadValues
    read_file: Callable[[str], bytes] | None
    batch_size: int


class WorkBatch:
    """One batch on its way to the encoder; not a dataclass, so that Lightning leaves its fields alone.

    Attributes:
        unit: The unit it belongs to.
        inputs: What the embedder's ``collate`` returned; ``None`` if there is nothing left to embed.
        rows: Rows of the shard that get an embedding from this batch, int64 ``(rows,)``.
        source: For each of them which row of the encoder's output it gets, int64 ``(rows,)``.
        done: Rows of the unit that are through with this batch, for the progress display.
        failed: Rows with their reasons that turned out broken since the batch before. They are reported when the
            batch is worked on: Lightning fetches one ahead, whose failure must not cost what came before it.
        note: With the last batch of the unit what became of its rows; else ``None``.
    """

    def __init__(self, unit: Unit, inputs: Any, rows: Tensor, source: Tensor, done: int, note: Note | None) -> None:
        self.unit = unit
        self.inputs = inputs
        self.rows = rows
        self.source = source
        self.done = done
        self.note = note
        self.failed: list[tuple[int, str]] = []

    def to_device(self, device: torch.device, convert: Callable[[Any], Any] = lambda inputs: inputs) -> WorkBatch:
        """Copy with its tensors on ``device``, the inputs passed through ``convert`` before."""
        moved = copy.copy(self)
        parts = (convert(self.inputs), self.rows, self.source)
        moved.inputs, moved.rows, moved.source = move_data_to_device(parts, device)
        return moved


@dataclass
class _Chunk:
    """Rows of one unit that are prepared together; they become one batch or, with bucketing, many."""

    unit: Unit
    start: int
    stop: int
    batches: list[WorkBatch] = field(default_factory=list)
    note: Note = field(default_factory=Note)


class BatchStream:
    """Iterable over the batches of some units, prepared in threads while the encoder works.

    Args:
        units: Units in the order to work on.
        feeds: For each modality where its values come from.
        workers: Threads.
        pin_memory: Put the inputs in page-locked memory, for the way to a GPU.
    """

    def __init__(
        self,
        units: Iterable[Unit],
        feeds: Mapping[str, Feed],
        workers: int,
        *,
        pin_memory: bool = False,
    ) -> None:
        self._units = list(units)
        self._feeds = feeds
        self._workers = workers
        self._pin_memory = pin_memory

    def __iter__(self) -> Iterator[WorkBatch]:
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="prepare")
        try:
            note = Note()
            for chunk in self._ahead(pool):
                note.add(chunk.note)
                chunk.batches[0].failed = chunk.note.failed
                yield from chunk.batches[:-1]
                last = chunk.batches[-1]
                if chunk.stop == chunk.unit.stop:
                    last.note, note = note, Note()
                yield last
        finally:
            pool.shutdown(cancel_futures=True)

    def _ahead(self, pool: ThreadPoolExecutor) -> Iterator[_Chunk]:
        """Prepared chunks in order, always some of them in preparation."""
        waiting: deque[Future[_Chunk]] = deque()
        for unit in self._units:
            feed = self._feeds[unit.modality]
            step = unit.stop - unit.start if feed.embedder.bucketing else feed.batch_size
            ahead = 1 if feed.embedder.bucketing else 2 * self._workers
            for start in range(unit.start, unit.stop, step):
                chunk = _Chunk(unit, start, min(start + step, unit.stop))
                waiting.append(pool.submit(self._prepare, chunk, feed))
                while len(waiting) > ahead:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _prepare(self, chunk: _Chunk, feed: Feed) -> _Chunk:
        """Fill a chunk with its batches and its note; runs in a thread."""
        rows_of = _rows_by_value(feed.read_values(chunk.start, chunk.stop), chunk)
        ready = []
        for rows, result in zip(rows_of.values(), _prepared_values(feed, list(rows_of)), strict=True):
            if isinstance(result, Prepared):
                ready.append((rows, result))
                chunk.note.truncated += len(rows) * (result.cut > 0)
                chunk.note.cut += len(rows) * result.cut
            elif result is None:
                chunk.note.missing += rows
            else:
                chunk.note.failed += [(row, reason(result)) for row in rows]
        if feed.embedder.bucketing:
            ready.sort(key=lambda entry: -entry[1].length)  # longest first: memory runs out at once or never
        for part in split_batches([prepared.length for _, prepared in ready], feed.batch_size):
            chunk.batches.append(self._batch(chunk.unit, ready[part], feed.embedder))
        if not chunk.batches:
            nothing = torch.empty(0, dtype=torch.int64)
            chunk.batches.append(WorkBatch(chunk.unit, None, nothing, nothing, 0, None))
        chunk.batches[-1].done += chunk.stop - chunk.start - sum(len(rows) for rows, _ in ready)
        return chunk

    def _batch(self, unit: Unit, ready: list[tuple[list[int], Prepared]], embedder: Embedder) -> WorkBatch:
        inputs = embedder.collate([prepared.data for _, prepared in ready])
        if self._pin_memory:
            inputs = apply_to_collection(inputs, Tensor, Tensor.pin_memory)
        rows = [row - unit.first for rows, _ in ready for row in rows]
        source = [k for k, (rows, _) in enumerate(ready) for _ in rows]
        return WorkBatch(unit, inputs, torch.tensor(rows), torch.tensor(source), len(rows), None)


def split_batches(lengths: Sequence[int], batch_size: int) -> Iterator[slice]:
    """Split values, sorted from long to short, so that little of a batch is padding.

    A batch ends with ``batch_size`` values, or before a value of less than three quarters of its longest one.

    Example:
        >>> [(part.start, part.stop) for part in split_batches([512, 90, 80, 70, 60, 59], batch_size=3)]
        [(0, 1), (1, 4), (4, 6)]
    """
    start = 0
    for stop, length in enumerate(lengths):
        if stop > start and (stop - start == batch_size or 4 * length < 3 * lengths[start]):
            yield slice(start, stop)
            start = stop
    if start < len(lengths):
        yield slice(start, len(lengths))


def reason(error: Exception) -> str:
    """Text of an error for the list of failures."""
    return str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"


def _rows_by_value(values: list[Any], chunk: _Chunk) -> dict[Any, list[int]]:
    """Rows that hold the same text or path, which is embedded once; other values stand for themselves."""
    rows_of: dict[Any, list[int]] = {}
    for row, value in enumerate(values, start=chunk.start):
        if value is None:
            chunk.note.missing.append(row)
        else:
            rows_of.setdefault(value if isinstance(value, str) else _Single(value), []).append(row)
    return rows_of


class _Single:
    """A value that equals only itself, whatever it is."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _prepared_values(feed: Feed, values: list[Any]) -> list[Prepared | Exception | None]:
    """What became of each value, in order.

    Raises:
        ConfigError: For an error that no other value would escape.
    """
    values = [value.value if isinstance(value, _Single) else value for value in values]
    if feed.read_file is not None:
        values = [_content(feed.read_file, value) for value in values]
    usable = [value for value in values if not isinstance(value, Exception)]
    results = iter(feed.embedder.prepare_many(usable) if usable else [])
    everything = [value if isinstance(value, Exception) else next(results) for value in values]
    for result in everything:
        if isinstance(result, ConfigError):
            raise result
    return everything


def _content(read_file: Callable[[str], bytes], value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return read_file(value)
    except (DataError, OSError, ValueError, zipfile.BadZipFile) as error:
        return error

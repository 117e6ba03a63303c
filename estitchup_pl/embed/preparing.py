"""From units of work to batches: read, prepare in threads ahead of the encoder, put like lengths together.

What is in a batch is a function of its shard alone, never of what was done before, so that a resumed run gives
the very numbers of an uninterrupted one.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from estitchup_pl.embed.embedder import Prepared
from estitchup_pl.embed.modality import Modality
from estitchup_pl.embed.state import Note, Unit
from estitchup_pl.errors import ConfigError, DataError

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True)
class Feed:
    """Where the values of a modality come from.

    Attributes:
        modality: Says how cells become values, and how these are prepared and batched.
        cells: Reads the cells of a range of rows.
        read_file: Reads the file that a value names; ``None`` if values are used as they are.
        pin_memory: Put batches in page-locked memory, for the way to a GPU.
    """

    modality: Modality
    cells: Callable[[int, int], list[Any]]
    read_file: Callable[[str], bytes] | None = None
    pin_memory: bool = False


class Batch(NamedTuple):
    """What the encoder gets at a time.

    Attributes:
        inputs: What the embedder's ``collate`` returned.
        rows: For each value in it the rows of the table that hold it, one or, where texts repeat, several.
    """

    inputs: Any
    rows: list[list[int]]


class Chunk(NamedTuple):
    """Rows of one unit that were prepared together, and the note of what in them is not in the batches."""

    unit: Unit
    batches: list[Batch]
    note: Note


def prepared_ahead(units: Iterable[Unit], feeds: Mapping[str, Feed], workers: int) -> Generator[Chunk]:
    """Yield the chunks of all units in order; threads prepare the next ones meanwhile.

    With a bucketing embedder a chunk is a whole unit, in many batches; else it is one batch.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="prepare")
    waiting: deque[Future[Chunk]] = deque()
    try:
        for unit in units:
            feed = feeds[unit.modality]
            whole = feed.modality.embedder.bucketing
            step, ahead = (unit.stop - unit.start, 1) if whole else (feed.modality.batch_size, 2 * workers)
            for start in range(unit.start, unit.stop, step):
                waiting.append(pool.submit(_prepare, feed, unit, start, min(start + step, unit.stop)))
                while len(waiting) > ahead:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare(feed: Feed, unit: Unit, start: int, stop: int) -> Chunk:
    """Read rows, prepare their values and collate them; runs in a thread."""
    embedder, note = feed.modality.embedder, Note()
    rows_of = _rows_by_value(feed, start, stop, note)
    ready: list[tuple[list[int], Prepared]] = []
    for (_, rows), result in zip(rows_of, _prepared_values(feed, [value for value, _ in rows_of]), strict=True):
        if isinstance(result, Prepared):
            ready.append((rows, result))
            note.truncated += len(rows) * (result.cut > 0)
            note.cut += len(rows) * result.cut
        elif result is None:
            note.missing += rows
        else:
            note.failed += [(row, _reason(result)) for row in rows]
    if embedder.bucketing:
        ready.sort(key=lambda entry: -entry[1].length)  # longest first: memory runs out at once or never
    batches = []
    for part in split_batches([prepared.length for _, prepared in ready], feed.modality.batch_size):
        inputs = embedder.collate([prepared.data for _, prepared in ready[part]])
        if feed.pin_memory:
            inputs = apply_to_collection(inputs, Tensor, Tensor.pin_memory)
        batches.append(Batch(inputs, [rows for rows, _ in ready[part]]))
    return Chunk(unit, batches, note)


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


def _rows_by_value(feed: Feed, start: int, stop: int, note: Note) -> list[tuple[Any, list[int]]]:
    """Values with their rows: a text or path that is there several times once, other values each for themselves."""
    found: dict[str | int, tuple[Any, list[int]]] = {}
    for row, cell in enumerate(feed.cells(start, stop), start):
        value = feed.modality.value(cell)
        if value is None:
            note.missing.append(row)
        else:
            found.setdefault(value if isinstance(value, str) else row, (value, []))[1].append(row)
    return list(found.values())


def _prepared_values(feed: Feed, values: list[Any]) -> list[Prepared | Exception | None]:
    """What became of each value, in order.

    Raises:
        ConfigError: For an error that no other value would escape.
    """
    if feed.read_file is not None:
        values = [_content(feed.read_file, value) for value in values]
    usable = [value for value in values if not isinstance(value, Exception)]
    results = iter(feed.modality.embedder.prepare_many(usable) if usable else [])
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
    except DataError as error:
        return error


def _reason(error: Exception) -> str:
    """Text of an error for the list of failures; the same in every run, so without addresses in memory."""
    text = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
    return _ADDRESS.sub("", text)

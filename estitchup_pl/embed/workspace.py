"""The folder in which a run collects shards, inside the store's own: what is done, and what is left to do.

::

    OUT/                     the finished store, or nothing yet
    OUT/.embedding/          the run: embed.json (RunState), digests of the inputs, staged items,
        embeddings/          whole shards,
        notes/               and beside each shard what became of its rows; written before the shard

A shard that is there is whole, and so is its note: that is all a killed run needs to go on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from estitchup_pl.embed.state import RunState
from estitchup_pl.store import shard_path
from estitchup_pl.store.files import atomic_path

WORK_NAME: Final = ".embedding"
STAGE_NAME: Final = "items.arrow"
_NOTES_NAME: Final = "notes"


@dataclass(frozen=True)
class Unit:
    """One shard of one modality: what a process embeds and writes as a whole.

    Attributes:
        modality: Name of the modality.
        shard: Index of the shard.
        first: First row of the shard.
        start: First row to embed; above ``first`` where a store's last shard is filled up with new items.
        stop: Row after the last.
    """

    modality: str
    shard: int
    first: int
    start: int
    stop: int


@dataclass
class Note:
    """What became of the rows of one unit, beside their embeddings; rows count from the table's beginning.

    Attributes:
        missing: Rows with nothing to embed.
        failed: Rows that could not be embedded, with the reason.
        truncated: Rows that were cut off.
        cut: By how much in all, in tokens.
    """

    missing: list[int] = field(default_factory=list)
    failed: list[tuple[int, str]] = field(default_factory=list)
    truncated: int = 0
    cut: int = 0

    def add(self, other: Note) -> None:
        """Take over what another note says."""
        self.missing += other.missing
        self.failed += other.failed
        self.truncated += other.truncated
        self.cut += other.cut


def all_units(state: RunState) -> list[Unit]:
    """Units of a run in the order they are worked on, finished ones included; carried shards are no units."""
    return [unit for modality in state.modalities for unit in _units_of(state, modality)]


def missing_units(work: Path, state: RunState) -> list[Unit]:
    """Units whose shard is not there yet."""
    return [unit for unit in all_units(state) if not shard_path(work, unit.modality, unit.shard).exists()]


def _units_of(state: RunState, modality: str) -> Iterator[Unit]:
    size, carried = state.rows_per_shard, state.carried.get(modality, 0)
    for first in range(carried // size * size, state.rows, size):
        start, stop = max(first, carried), min(first + size, state.rows)
        if start < stop:
            yield Unit(modality, first // size, first, start, stop)


def write_note(work: Path, unit: Unit, note: Note) -> None:
    """Write the note of a unit, whole or not at all."""
    with atomic_path(_note_path(work, unit)) as temporary:
        temporary.write_text(json.dumps(asdict(note)), encoding="utf-8")


def read_note(work: Path, unit: Unit) -> Note:
    """Read the note of a finished unit."""
    content = json.loads(_note_path(work, unit).read_text(encoding="utf-8"))
    content["failed"] = [(int(row), str(reason)) for row, reason in content["failed"]]
    return Note(**content)


def _note_path(work: Path, unit: Unit) -> Path:
    return work / _NOTES_NAME / unit.modality / f"{unit.shard:05d}.json"

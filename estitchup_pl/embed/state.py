"""What a run was asked for and what of it is done: the folder in which it collects shards, inside the store's own.

::

    OUT/                     the finished store, or nothing yet
    OUT/.embedding/          the run: embed.json (EmbedState), digests of the inputs, staged items,
        embeddings/          whole shards,
        notes/               and beside each shard what became of its rows; written before the shard

A shard that is there is whole, and so is its note: that is all a killed run needs to go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from estitchup_pl.embed.staging import Digests
from estitchup_pl.errors import DataError, StoreError
from estitchup_pl.store import sealed, shard_path

WORK_NAME: Final = ".embedding"
STATE_NAME: Final = "embed.json"
DIGESTS_NAME: Final = "embed_inputs.parquet"
STAGE_NAME: Final = "items.arrow"
_NOTES_NAME: Final = "notes"
_VERSION: Final = 1


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


@dataclass(frozen=True)
class EmbedState:
    """Content of ``embed.json``: what decides the embeddings, so that a later run can tell whether they still hold.

    Attributes:
        rows: Rows of the input table.
        rows_per_shard: Rows in every shard but the last.
        precision: Precision in which the encoders run.
        modalities: For each modality the settings that decide its embeddings.
        carried: For each modality how many rows are taken over from the finished store in the same folder.
        truncation: For each modality ``[rows, tokens]`` that were cut off; known once the run is finished.
    """

    rows: int
    rows_per_shard: int
    precision: str
    modalities: dict[str, dict[str, Any]]
    carried: dict[str, int] = field(default_factory=dict)
    truncation: dict[str, list[int]] = field(default_factory=dict)

    def differences(self, other: EmbedState) -> list[str]:
        """List what ``other``, the newer one, changes in the settings; rows and inputs are left out."""
        return [
            *_differences("rows_per_shard", self.rows_per_shard, other.rows_per_shard),
            *_differences("precision", self.precision, other.precision),
            *_differences("modalities", self.modalities, other.modalities),
        ]

    def units(self) -> list[Unit]:
        """Units of the run in the order they are worked on, finished ones included; carried shards are no units."""
        size, units = self.rows_per_shard, []
        for modality in self.modalities:
            carried = self.carried.get(modality, 0)
            for first in range(carried // size * size, self.rows, size):
                start, stop = max(first, carried), min(first + size, self.rows)
                if start < stop:
                    units.append(Unit(modality, first // size, first, start, stop))
        return units

    def missing_units(self, work: Path) -> list[Unit]:
        """Units whose shard is not in the run's folder yet."""
        return [unit for unit in self.units() if not shard_path(work, unit.modality, unit.shard).exists()]

    def write(self, folder: Path, digests: Digests) -> None:
        """Write the state and the digests of the inputs; the state last."""
        sealed.write_table(folder / DIGESTS_NAME, pa.table(digests))
        sealed.write_json(folder / STATE_NAME, {"version": _VERSION, **asdict(self)})

    @classmethod
    def read(cls, folder: Path) -> EmbedState:
        """Read the state in ``folder``.

        Raises:
            StoreError: If it is damaged or of another version.
        """
        path = folder / STATE_NAME
        try:
            content = sealed.read_json(path)
            if content.pop("version") != _VERSION:
                raise ValueError("written by another version of estitchup_pl")
            return cls(**content)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"{path}: damaged ({error}). Run again with --restart to embed everything anew."
            ) from error


def read_digests(folder: Path) -> Digests:
    """Read what :meth:`EmbedState.write` wrote beside the state.

    Raises:
        StoreError: If it is damaged.
    """
    try:
        table = sealed.read_table(folder / DIGESTS_NAME)
    except (OSError, DataError) as error:
        raise StoreError(f"{error}. Run again with --restart to embed everything anew.") from error
    return {name: table[name].to_numpy() for name in table.column_names}


@dataclass
class Note:
    """What became of the rows of one unit, beside their embeddings; rows count from the table's beginning.

    Attributes:
        missing: Rows with nothing to embed.
        failed: Rows that could not be embedded, with the reason.
        truncated: Rows that were cut off.
        cut: By how much in all, in tokens.
        digest: Digest of the unit's shard.
    """

    missing: list[int] = field(default_factory=list)
    failed: list[tuple[int, str]] = field(default_factory=list)
    truncated: int = 0
    cut: int = 0
    digest: str = ""

    def add(self, other: Note) -> None:
        """Take over what another note says of rows."""
        self.missing += other.missing
        self.failed += other.failed
        self.truncated += other.truncated
        self.cut += other.cut

    def write(self, work: Path, unit: Unit) -> None:
        """Write the note of a unit, whole or not at all."""
        sealed.write_json(_note_path(work, unit), asdict(self))

    @classmethod
    def read(cls, work: Path, unit: Unit) -> Note:
        """Read the note of a finished unit.

        Raises:
            StoreError: If it is damaged.
        """
        path = _note_path(work, unit)
        try:
            content = sealed.read_json(path)
            return cls(**{**content, "failed": [(row, reason) for row, reason in content["failed"]]})
        except (OSError, ValueError, TypeError, KeyError) as error:
            shard = shard_path(work, unit.modality, unit.shard)
            raise StoreError(f"{path}: damaged ({error}). Remove {shard} and run the same command again.") from error


def _note_path(work: Path, unit: Unit) -> Path:
    return work / _NOTES_NAME / unit.modality / f"{unit.shard:05d}.json"


def _differences(name: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differences(f"{name}.{key}", old.get(key), new.get(key))
    elif old != new:
        yield f"{name}: was {old!r}, is {new!r}"

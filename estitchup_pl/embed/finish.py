"""The end of a run: bring its shards and notes together to a store, and put that in place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from estitchup_pl.embed.staging import StagedItems
from estitchup_pl.embed.state import DIGESTS_NAME, STAGE_NAME, STATE_NAME, WORK_NAME, EmbedState, Note, read_digests
from estitchup_pl.errors import DataError
from estitchup_pl.store import (
    HEADER_NAME,
    ITEMS_NAME,
    ModalityInfo,
    StoreHeader,
    digest_file,
    flag_column,
    read_header,
    shard_name,
    shard_path,
    write_header,
    write_items,
)
from estitchup_pl.store.files import EMBEDDINGS_NAME, FAILURES_NAME, atomic_path, read_table
from estitchup_pl.store.items import has_integer_ids, with_flags
from estitchup_pl.store.label_history import with_changed_labels
from estitchup_pl.tables import holds_files

_FAILURES: Final = pa.schema([("id", pa.string()), ("modality", pa.string()), ("reason", pa.string())])


@dataclass(frozen=True)
class ModalityReport:
    """Counts of one modality over the whole store.

    Attributes:
        embedded: Rows that have an embedding.
        missing: Rows that had nothing to embed.
        failed: Rows that could not be embedded; see ``failures.parquet``.
        truncated: Rows that were cut off.
        cut: Tokens that were cut off, in all.
    """

    embedded: int
    missing: int
    failed: int
    truncated: int
    cut: int


@dataclass(frozen=True)
class EmbedSummary:
    """What a run did.

    Attributes:
        out: Folder of the store.
        rows: Items in the store.
        embedded: Values that this run embedded, over all modalities and processes; the rest was there already.
        seconds: How long it took, from the start of the encoders to the store.
        modalities: Counts of each modality over the whole store.
    """

    out: Path
    rows: int
    embedded: int
    seconds: float
    modalities: dict[str, ModalityReport]

    def __str__(self) -> str:
        rate = self.embedded / self.seconds if self.seconds else 0.0
        lines = [
            f"{self.out}: {self.rows} items; {self.embedded} values in {self.seconds:.1f} s ({rate:.0f} rows/s)",
            f"{'modality':<16}{'embedded':>10}{'missing':>10}{'failed':>10}{'truncated':>10}{'tokens cut':>12}",
        ]
        for name, report in self.modalities.items():
            counts = f"{report.embedded:>10}{report.missing:>10}{report.failed:>10}{report.truncated:>10}"
            lines.append(f"{name:<16}{counts}{report.cut:>12}")
        return "\n".join(lines)


def finish(
    out: Path, state: EmbedState, infos: Mapping[str, ModalityInfo], *, may_lack_all: bool = False
) -> dict[str, ModalityReport]:
    """Write what belongs to a store beside the shards, and put the store in place.

    Args:
        out: Folder of the store.
        state: The run.
        infos: Description of each modality.
        may_lack_all: Whether a modality need not have one embedding, for items that are only decided about.

    Raises:
        DataError: If a modality has not one embedding, which nothing could be trained on.
    """
    work = out / WORK_NAME
    table = _item_columns(StagedItems(work / STAGE_NAME).table())
    integer_ids = has_integer_ids(table)
    if (out / HEADER_NAME).exists():
        table = with_changed_labels(out, table)
    notes, digests = _notes(work, state), _shard_digests(out, state)
    flags = {name: _flags(out, state, name, notes[name]) for name in state.modalities}
    failures = _failures(out, state, notes, table["id"])
    truncation = _truncation(out, state, notes)
    reports = {}
    for name, present in flags.items():
        failed = int(np.count_nonzero(failures["modality"].to_numpy(zero_copy_only=False) == name))
        embedded = int(np.count_nonzero(present))
        reports[name] = ModalityReport(embedded, state.rows - embedded - failed, failed, *truncation[name])
        if not embedded and not may_lack_all:
            _refuse_empty(name, failures)
    digests[ITEMS_NAME] = write_items(work, with_flags(table, flags))
    with atomic_path(work / FAILURES_NAME) as temporary:
        pq.write_table(failures, temporary, write_page_checksum=True)
    replace(state, carried={}, truncation=truncation).write(work, read_digests(work))
    digests |= {name: digest_file(work / name) for name in (FAILURES_NAME, STATE_NAME, DIGESTS_NAME)}
    write_header(work, StoreHeader(state.rows, state.rows_per_shard, dict(infos), digests, integer_ids))
    publish(out)
    return reports


def publish(out: Path) -> None:
    """Move a complete store from the run's folder to ``out``; killed anywhere, it can be called again.

    A store that is already there is no longer one from the first step on, and the new one is whole at the last.
    """
    work = out / WORK_NAME
    header = read_header(work)
    (out / HEADER_NAME).unlink(missing_ok=True)
    shards = {shard_path(out, name, index) for name in header.modalities for index in range(header.shards)}
    for name in (STATE_NAME, DIGESTS_NAME, ITEMS_NAME, FAILURES_NAME):
        _move(work / name, out / name)
    for path in shards:
        _move(work / path.relative_to(out), path)
    for path in set((out / EMBEDDINGS_NAME).rglob("*.npy")) - shards:
        path.unlink()
    _move(work / HEADER_NAME, out / HEADER_NAME)
    shutil.rmtree(work)


def _move(source: Path, target: Path) -> None:
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)


def _item_columns(table: pa.Table) -> pa.Table:
    """Columns of the item table; cells with whole files (images ...) are left behind."""
    kept = [name for name in table.column_names if not holds_files(table.schema.field(name).type)]
    return table.select(kept)


def _notes(work: Path, state: EmbedState) -> dict[str, Note]:
    notes = {name: Note() for name in state.modalities}
    for unit in state.units():
        notes[unit.modality].add(Note.read(work, unit))
    return notes


def _shard_digests(out: Path, state: EmbedState) -> dict[str, str]:
    """Digests of all shards of the store to be: of those it takes over, and of those that were embedded."""
    carried = read_header(out).digests if any(state.carried.values()) else {}
    kept = {name: digest for name, digest in carried.items() if name.startswith(f"{EMBEDDINGS_NAME}/")}
    return kept | {
        shard_name(unit.modality, unit.shard): Note.read(out / WORK_NAME, unit).digest for unit in state.units()
    }


def _flags(out: Path, state: EmbedState, modality: str, note: Note) -> npt.NDArray[np.bool_]:
    """Which rows have the modality ``(rows,)``."""
    present = np.ones(state.rows, dtype=np.bool_)
    if carried := state.carried.get(modality, 0):
        old = read_table(out / ITEMS_NAME, [flag_column(modality)])
        present[:carried] = old[flag_column(modality)].to_numpy()
    present[note.missing + [row for row, _ in note.failed]] = False
    return present


def _failures(out: Path, state: EmbedState, notes: Mapping[str, Note], ids: pa.ChunkedArray) -> pa.Table:
    rows = [(ids[row].as_py(), name, reason) for name, note in notes.items() for row, reason in note.failed]
    new = pa.Table.from_pylist([dict(zip(_FAILURES.names, row, strict=True)) for row in rows], schema=_FAILURES)
    if not any(state.carried.values()):
        return new
    return pa.concat_tables([read_table(out / FAILURES_NAME), new])


def _truncation(out: Path, state: EmbedState, notes: Mapping[str, Note]) -> dict[str, list[int]]:
    old = EmbedState.read(out).truncation if any(state.carried.values()) else {}
    nothing = [0, 0]
    return {
        name: [sum(pair) for pair in zip(old.get(name, nothing), (note.truncated, note.cut), strict=True)]
        for name, note in notes.items()
    }


def _refuse_empty(modality: str, failures: pa.Table) -> None:
    mine = failures.filter(pa.compute.equal(failures["modality"], modality))
    why = f"the first one failed: {mine['reason'][0].as_py()}" if len(mine) else "the column is empty"
    raise DataError(f"modality {modality!r}: not one item could be embedded; {why}. Fix this and pass --restart.")

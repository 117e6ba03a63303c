"""The start of a run: begin, go on with what a killed run left, or add new items to a finished store."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from estitchup_pl.embed.finish import publish
from estitchup_pl.embed.modality import Modality
from estitchup_pl.embed.recipe import Recipe
from estitchup_pl.embed.staging import Digests, StagedItems, reorder_items, stage_items
from estitchup_pl.embed.state import DIGESTS_NAME, STAGE_NAME, STATE_NAME, WORK_NAME, EmbedState, Unit, read_digests
from estitchup_pl.errors import ConfigError
from estitchup_pl.locking import LOCK_NAME
from estitchup_pl.store import HEADER_NAME, ITEMS_NAME, read_header
from estitchup_pl.store.files import FAILURES_NAME, TEMPORARY_SUFFIX, read_table
from estitchup_pl.store.verification import verify_digest
from estitchup_pl.tables import ItemReader

_RESTART = "Undo the change, choose another folder, or pass --restart to embed everything anew."


@dataclass(frozen=True)
class Request:
    """What is to be embedded, and where it is to go.

    Attributes:
        out: Folder of the store.
        items: Reader of the input table.
        id_column: Column with the items' ids.
        label_column: Column with their labels, if any.
        modalities: The modalities, by name.
        rows_per_shard: Rows in every shard but the last.
        restart: Drop what an unfinished run left, and replace a finished store.
        same_as: Recipes that the encoders have to follow, where the embeddings are for a model that is there.
    """

    out: Path
    items: ItemReader
    id_column: str
    label_column: str | None
    modalities: Mapping[str, Modality]
    rows_per_shard: int
    restart: bool
    same_as: Mapping[str, Recipe] | None = None

    @property
    def work(self) -> Path:
        """Folder of the run."""
        return self.out / WORK_NAME


def refuse_foreign_folder(out: Path) -> None:
    """Raise :class:`ConfigError` unless a run may write to a folder: a new or empty one, or one that runs wrote."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"out: expected a folder, {out} is a file")
    if not out.exists() or (out / WORK_NAME).exists():
        return
    if (out / HEADER_NAME).exists():
        if STATE_NAME in read_header(out).digests:
            return
        raise ConfigError(f"out: {out} is a store that `estitchup embed` did not write. Choose another folder.")
    if {file.name for file in out.iterdir()} - {LOCK_NAME}:
        raise ConfigError(f"out: {out} is neither empty nor a store. Choose another folder.")


def begin(request: Request, precision: str) -> list[Unit]:
    """Check the input table, stage it in the run's folder, write the state of the run; return what is left to do.

    Raises:
        ConfigError: If settings or inputs differ from those of the unfinished run or finished store there.
        DataError: If the input table cannot be used.
    """
    out, work = request.out, request.work
    _finish_publication(out)
    if work.exists() and (request.restart or not (work / STATE_NAME).exists()):
        shutil.rmtree(work)
    for left_over in work.rglob(f"*{TEMPORARY_SUFFIX}"):
        left_over.unlink()
    stage = work / STAGE_NAME
    digests = stage_items(request.items, request.id_column, request.label_column, request.modalities, stage)
    ids = StagedItems(stage).table()["id"]
    settings = {name: modality.settings() for name, modality in request.modalities.items()}
    state = EmbedState(len(ids), request.rows_per_shard, precision, settings)
    if (work / STATE_NAME).exists():
        state = _resume(out, state, ids, digests)
    elif (out / HEADER_NAME).exists() and not request.restart:
        state = _append(out, state, ids, digests)
    else:
        state.write(work, digests)
    return state.missing_units(work)


def _resume(out: Path, new: EmbedState, ids: pa.ChunkedArray, digests: Digests) -> EmbedState:
    work = out / WORK_NAME
    old = EmbedState.read(work)
    _refuse_changes(old.differences(new), f"the unfinished run in {out}")
    if old.rows != new.rows:
        raise ConfigError(
            f"the input table of the unfinished run in {out} changed: had {old.rows} rows, has {new.rows}. {_RESTART}"
        )
    if old.carried:
        _verify_carried(out)
        digests = _reorder(work / STAGE_NAME, _order(out, ids), digests)
    _refuse_changed_inputs(work, read_digests(work), digests, f"the unfinished run in {out}")
    return old


def _append(out: Path, new: EmbedState, ids: pa.ChunkedArray, digests: Digests) -> EmbedState:
    """Take over every row of the finished store; its order stays, new items follow in the table's order."""
    _verify_carried(out)
    work, old = out / WORK_NAME, EmbedState.read(out)
    gone = [name for name in old.modalities if name not in new.modalities]
    if gone:
        raise ConfigError(f"modality {gone[0]!r} of the store in {out} is no longer in the config. {_RESTART}")
    known = {name: new.modalities[name] for name in new.modalities if name in old.modalities}
    _refuse_changes(old.differences(replace(new, modalities=known)), f"the store in {out}")
    digests = _reorder(work / STAGE_NAME, _order(out, ids), digests)
    kept = {name: values[: old.rows] for name, values in digests.items() if name in old.modalities}
    _refuse_changed_inputs(work, read_digests(out), kept, f"the store in {out}")
    state = replace(new, carried=dict.fromkeys(old.modalities, old.rows))
    state.write(work, digests)
    return state


def _verify_carried(out: Path) -> None:
    """Refuse damage in what is taken over of a finished store; its shards are compared when they are used."""
    header = read_header(out)
    for name in (STATE_NAME, DIGESTS_NAME, FAILURES_NAME, ITEMS_NAME):
        verify_digest(out, header, out / name)


def _order(out: Path, ids: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Rows of the input table in the store's order: known items first, new ones after them ``(rows,)``."""
    known = read_table(out / ITEMS_NAME, ["id"])["id"]
    rows = pc.index_in(known, value_set=ids.combine_chunks())
    if rows.null_count:
        gone = known.filter(pc.is_null(rows))
        raise ConfigError(
            f"{len(gone)} items of the store in {out} are no longer in the input table, e.g. id "
            f"{gone[0].as_py()!r}. {_RESTART}"
        )
    order = rows.to_numpy().astype(np.int64)
    new = np.setdiff1d(np.arange(len(ids)), order, assume_unique=True)
    return np.concatenate([order, new])


def _reorder(stage: Path, order: npt.NDArray[np.int64], digests: Digests) -> Digests:
    if np.array_equal(order, np.arange(len(order))):
        return digests
    reorder_items(stage, order)
    return {name: values[order] for name, values in digests.items()}


def _refuse_changes(changes: list[str], what: str) -> None:
    if changes:
        listed = "".join(f"\n  {change}" for change in changes)
        raise ConfigError(f"{what} was made with other settings:{listed}\n{_RESTART}")


def _refuse_changed_inputs(work: Path, old: Digests, new: Digests, what: str) -> None:
    changed = {name: np.flatnonzero(old[name] != new[name]) for name in old.keys() & new.keys()}
    first = min(((int(rows[0]), name) for name, rows in changed.items() if len(rows)), default=None)
    if first is None:
        return
    row, modality = first
    identifier = str(StagedItems(work / STAGE_NAME).table()["id"][row].as_py())
    raise ConfigError(
        f"the input of {what} changed: first in row {row} (id {identifier!r}), modality {modality!r}. {_RESTART}"
    )


def _finish_publication(out: Path) -> None:
    """Complete the last step of a run that was killed in the middle of it."""
    if (out / WORK_NAME / HEADER_NAME).exists():
        publish(out)

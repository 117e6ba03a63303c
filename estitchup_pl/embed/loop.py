"""The loop between reader and writer: shards prepared ahead, encoded, written whole or not at all."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from estitchup_pl.embed.companions import Companions
from estitchup_pl.embed.finish import EmbedSummary, finish
from estitchup_pl.embed.modality import Modality, open_root
from estitchup_pl.embed.preparing import Batch, Feed, prepared_ahead
from estitchup_pl.embed.staging import StagedItems
from estitchup_pl.embed.start import Request, begin, refuse_foreign_folder
from estitchup_pl.embed.state import STAGE_NAME, STATE_NAME, EmbedState, Note, Unit
from estitchup_pl.errors import ConfigError, DataError, EstitchupError
from estitchup_pl.locking import locked_folder
from estitchup_pl.stopping import keeping
from estitchup_pl.store import ModalityInfo, read_header, shard_path, write_shard
from estitchup_pl.store.blocks import inspect_block
from estitchup_pl.store.files import digest_shard
from estitchup_pl.store.swap import finish_swap_of_another
from estitchup_pl.store.verification import verify_digest

if TYPE_CHECKING:
    from lightning.fabric import Fabric

OnError = Literal["fail", "missing"]

_TYPES: Final = {"float16": torch.float16, "float32": torch.float32}
_MOST_WORKERS: Final = 16
_POLL_SECONDS: Final = 0.5
_Result = TypeVar("_Result")


def embed_shards(
    fabric: Fabric, request: Request, on_error: OnError, workers: int | None, num_nodes: int
) -> EmbedSummary | None:
    """Start the run, embed this process's share of its shards and, on the first process, finish the store.

    Args:
        fabric: Device, precision and processes; launched.
        request: What to embed, its embedders loaded.
        on_error: Whether a value that cannot be embedded ends the run.
        workers: Threads that prepare values; by default this process's share of the cores.
        num_nodes: Number of machines that the processes are spread over.

    Returns:
        What the run did; ``None`` on all processes but the first.
    """
    threads = _share_of_cores(fabric, num_nodes)
    started, precision = time.monotonic(), str(fabric.strategy.precision.precision)
    with ExitStack() as held, keeping(lambda: _kept(request)):

        def start() -> list[Unit]:
            finish_swap_of_another(request.out)
            refuse_foreign_folder(request.out)
            held.enter_context(locked_folder(request.out))
            return begin(request, precision)

        pending = _from_first_process(fabric, start)
        shares = {rank: pending[rank :: fabric.world_size] for rank in range(fabric.world_size)}
        companions = Companions(request.work, fabric.global_rank, shares)
        if fabric.world_size > 1:
            held.enter_context(companions.joined())
            fabric.barrier()  # all are there before one looks for another
        _embed_share(fabric, request, shares[fabric.global_rank], companions, on_error, workers or threads)
        if not fabric.is_global_zero:
            return None
        state = EmbedState.read(request.work)
        while state.missing_units(request.work):  # no barrier: those give up after half an hour
            companions.look()
            time.sleep(_POLL_SECONDS)
        infos = {name: _info(request, name, state.modalities[name]) for name in request.modalities}
        reports = finish(request.out, state, infos, may_lack_all=request.same_as is not None)
    values = sum(unit.stop - unit.start for unit in pending)
    return EmbedSummary(request.out, state.rows, values, time.monotonic() - started, reports)


def _embed_share(
    fabric: Fabric, request: Request, mine: list[Unit], companions: Companions, on_error: OnError, workers: int
) -> None:
    """Embed the units of one process and write their shards."""
    precision = fabric.strategy.precision
    for modality in request.modalities.values():
        fabric.to_device(precision.convert_module(modality.embedder.eval()))
    table = StagedItems(request.work / STAGE_NAME)
    several = f" (1 of {fabric.world_size} processes)" if fabric.world_size > 1 else ""
    chunks = prepared_ahead(mine, _feeds(request, table, fabric), workers)

    with closing(chunks), _progress_line(fabric, mine) as line, torch.inference_mode():
        for unit, parts in groupby(chunks, key=lambda chunk: chunk.unit):
            modality, note = request.modalities[unit.modality], Note()
            line.set_description(f"{unit.modality}{several}", refresh=False)
            outputs: list[Tensor] = []  # they stay on the device for a whole shard: no batch waits for a copy
            rows: list[list[int]] = []
            for part in parts:
                note.add(part.note)
                _obey(on_error, note, unit, table)
                for batch in part.batches:
                    companions.look()
                    outputs.append(_encode(fabric, modality, batch, unit))
                    rows += batch.rows
                    line.update(sum(map(len, batch.rows)))
            shard = _shard(request, unit, outputs, rows)
            note.failed += _blank_unusable(shard, rows, unit)
            _obey(on_error, note, unit, table)
            note.digest = digest_shard(shard)
            note.write(request.work, unit)
            write_shard(request.work, unit.modality, unit.shard, shard)
            line.update(unit.stop - unit.start - sum(map(len, rows)))

    for modality in request.modalities.values():
        modality.embedder.cpu()  # whoever called has the GPU's memory back


def file_readers(request: Request) -> dict[str, Callable[[str], bytes] | None]:
    """For each modality the function that reads the files that its column names, if it names files.

    Raises:
        ConfigError: For a ``root`` that is not there.
    """
    roots = {name: m.root or request.items.file_roots.get(m.column) for name, m in request.modalities.items()}
    return {
        name: None if root is None else open_root(root, request.modalities[name].max_bytes)
        for name, root in roots.items()
    }


def _from_first_process(fabric: Fabric, function: Callable[[], _Result]) -> _Result:
    """Call a function on the first process, however long it takes, and give every process what it returned.

    An error that explains itself is raised by the first process; the others end without a word.
    """
    answer: Any = None
    with fabric.rank_zero_first():
        if fabric.is_global_zero:
            try:
                answer = function()
            except EstitchupError as error:
                answer = error
    answer = fabric.broadcast(answer)
    if isinstance(answer, EstitchupError):
        raise answer if fabric.is_global_zero else SystemExit(1)
    result: _Result = answer
    return result


def _kept(request: Request) -> str:
    """What is kept of a run that is stopped, in one line."""
    if not (request.work / STATE_NAME).exists():
        return "nothing had been embedded; the same command begins anew"
    state = EmbedState.read(request.work)
    units = len(state.units())
    done = units - len(state.missing_units(request.work))
    return f"{done} of {units} shards are kept in {request.work}; the same command goes on"


def _feeds(request: Request, table: StagedItems, fabric: Fabric) -> dict[str, Feed]:
    read_file, on_gpu = file_readers(request), fabric.device.type == "cuda"
    return {
        name: Feed(modality, table.reader(modality.column), read_file[name], on_gpu)
        for name, modality in request.modalities.items()
    }


def _share_of_cores(fabric: Fabric, num_nodes: int) -> int:
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(max(cores * num_nodes // fabric.world_size, 1), _MOST_WORKERS)


def _progress_line(fabric: Fabric, units: list[Unit]) -> tqdm[Any]:
    """Rows done, rows per second and time left, for the share of the first process."""
    return tqdm(
        total=sum(unit.stop - unit.start for unit in units),
        unit="row",
        disable=not fabric.is_global_zero or not units,
        mininterval=0.2 if sys.stderr.isatty() else 30.0,
        dynamic_ncols=True,
    )


def _obey(on_error: OnError, note: Note, unit: Unit, table: StagedItems) -> None:
    """End the run at a value that cannot be embedded, unless told to go on."""
    if on_error == "fail" and note.failed:
        row, why = note.failed[0]
        identifier = str(table.reader("id")(row, row + 1)[0])
        raise DataError(
            f"modality {unit.modality!r}, row {row} (id {identifier!r}): {why}. Fix the item, or set on_error: "
            "missing to leave it without this modality. Whole shards are kept: the same command goes on."
        )


def _encode(fabric: Fabric, modality: Modality, batch: Batch, unit: Unit) -> Tensor:
    """Embed one batch on the device: ``(values, dim)`` in the type that is stored."""
    embedder, precision = modality.embedder, fabric.strategy.precision
    with precision.forward_context():
        embeddings = embedder.embed(precision.convert_input(fabric.to_device(batch.inputs)))
    expected = (len(batch.rows), embedder.dim)
    if tuple(embeddings.shape) != expected:
        raise ConfigError(
            f"modality {unit.modality!r}: {type(embedder).__name__}.embed returned shape "
            f"{tuple(embeddings.shape)} for a batch that needs {expected}"
        )
    return embeddings.to(fabric.device, _TYPES[modality.dtype])


def _shard(request: Request, unit: Unit, outputs: list[Tensor], rows: list[list[int]]) -> npt.NDArray[Any]:
    """The shard of a unit ``(rows, dim)``: what the finished store has of it, embeddings in their rows, zeros."""
    modality = request.modalities[unit.modality]
    shard = np.zeros((unit.stop - unit.first, modality.embedder.dim), modality.dtype)
    if kept := unit.start - unit.first:
        verify_digest(request.out, read_header(request.out), shard_path(request.out, unit.modality, unit.shard))
        shard[:kept] = np.load(shard_path(request.out, unit.modality, unit.shard), mmap_mode="r")[:kept]
    if outputs:
        places = np.array([*chain(*rows)]) - unit.first
        shard[places] = np.repeat(torch.cat(outputs).cpu().numpy(), [len(same) for same in rows], axis=0)
    return shard


def _blank_unusable(shard: npt.NDArray[Any], rows: list[list[int]], unit: Unit) -> list[tuple[int, str]]:
    """Set embeddings that a store cannot hold to zero; return their rows, with the reason."""
    facts = inspect_block(shard)
    usable = facts.finite & facts.present
    unusable = [row for row in sorted(chain(*rows)) if not usable[row - unit.first]]
    shard[np.array(unusable, np.int64) - unit.first] = 0
    return [(row, f"the encoder's output is NaN, infinite or all zero in {shard.dtype}") for row in unusable]


def _info(request: Request, name: str, settings: Mapping[str, Any]) -> ModalityInfo:
    modality = request.modalities[name]
    recipe = {"id": request.id_column, "root": modality.root, **settings}
    return ModalityInfo(modality.embedder.dim, modality.dtype, **modality.embedder.describe(), recipe=recipe)

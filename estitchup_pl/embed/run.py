"""From a table of items to a store, in one call: what ``estitchup embed`` does."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from estitchup_pl.embed.planning import Request
from estitchup_pl.embed.predict import EncoderModule, Modality, OnError, ProgressLine, UnitsDataModule
from estitchup_pl.embed.publishing import ModalityReport, finish
from estitchup_pl.embed.state import RunState
from estitchup_pl.embed.workspace import Unit, missing_units
from estitchup_pl.embed.writer import ShardWriter
from estitchup_pl.errors import ConfigError
from estitchup_pl.store import ModalityInfo, shard_path
from estitchup_pl.store.files import check_modality_name
from estitchup_pl.tables import ItemReader

TRAINER_DEFAULTS: Final[dict[str, Any]] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
"""Options of the Trainer that embeds: nothing to log or to save, and a progress line of its own."""

_MOST_WORKERS: Final = 16
_POLL_SECONDS: Final = 0.5


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


def embed_items(
    out: str | Path,
    items: ItemReader,
    modalities: Mapping[str, Modality],
    trainer: Trainer | None = None,
    id: str = "id",
    label: str | None = None,
    on_error: OnError = "fail",
    rows_per_shard: int = 4096,
    workers: int | None = None,
    restart: bool = False,
) -> EmbedSummary | None:
    """Embed a table of items and write an :class:`~estitchup_pl.store.EmbeddingStore`.

    Killed at any point, the same call goes on where it stopped, with the same result to the byte on the same
    devices. On a finished store it embeds new items only: those whose id is not in the store yet, which are
    appended in the order of the table; the table must still hold the old ones with their inputs unchanged, in
    any order. Other columns, such as labels, are taken from the table anew. A modality new in the config is
    added for all items.

    Args:
        out: Folder of the store.
        items: Reader of the input table.
        modalities: The modalities, by name, in the store's order.
        trainer: Lightning Trainer that runs the encoders (devices, precision, nodes ...); one process per device.
        id: Column with the items' ids, unique.
        label: Column with their labels.
        on_error: ``fail`` stops at the first value that cannot be read or embedded, ``missing`` leaves the item
            without this modality and lists it in ``failures.parquet``. Empty values are no errors.
        rows_per_shard: Rows in one file, and so the most that a killed process has to do again.
        workers: Threads of each process that decode, tokenize and so on; by default the cores there are.
        restart: Drop what an unfinished run left, and replace a finished store once the new one is whole.

    Returns:
        What the run did; ``None`` on all processes but the first.

    Raises:
        ConfigError: For options that cannot work, or that differ from those of the store or run in ``out``.
        DataError: For items that cannot be read or embedded.
    """
    started = time.monotonic()
    trainer = trainer or Trainer(**TRAINER_DEFAULTS)
    _check_options(trainer, modalities, rows_per_shard, workers)
    out = Path(out).absolute()
    sources = {name: modality.source for name, modality in modalities.items()}
    request = Request(out, items, id, label, sources, {}, rows_per_shard, str(trainer.precision), restart)
    data = UnitsDataModule(request, modalities, workers or _default_workers(trainer), on_error)
    for modality in modalities.values():
        modality.embedder.load()
    infos = {name: _info(modality) for name, modality in modalities.items()}
    module = EncoderModule({name: modality.embedder for name, modality in modalities.items()})
    writer = ShardWriter(out, data.work, infos, data.row_failed)
    with _added_callbacks(trainer, [writer, ProgressLine()]):
        trainer.predict(module, datamodule=data, return_predictions=False)
    _check_share(data.work, data.units)
    if not trainer.is_global_zero:
        return None
    state = RunState.read(data.work)
    _wait_for_the_others(data.work, state)
    reports = finish(out, state, infos)
    embedded = sum(unit.stop - unit.start for unit in data.pending)
    return EmbedSummary(out, state.rows, embedded, time.monotonic() - started, reports)


def _check_options(
    trainer: Trainer, modalities: Mapping[str, Modality], rows_per_shard: int, workers: int | None
) -> None:
    if not modalities:
        raise ConfigError("modalities: expected at least one, got none")
    for name in modalities:
        check_modality_name(name)
    for option, count in (("rows_per_shard", rows_per_shard), ("workers", workers)):
        if count is not None and count < 1:
            raise ConfigError(f"{option}: expected at least 1, got {count}")
    if not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
        raise ConfigError(
            f"trainer.strategy: {type(trainer.strategy).__name__} splits a model over processes; an encoder has "
            "to fit on one device here. Use auto or ddp."
        )


def _info(modality: Modality) -> ModalityInfo:
    return ModalityInfo(modality.embedder.dim, modality.dtype, **modality.embedder.describe())


def _default_workers(trainer: Trainer) -> int:
    """Cores of this machine for each of its processes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(cores // trainer.num_devices, 1), _MOST_WORKERS)


@contextmanager
def _added_callbacks(trainer: Any, callbacks: list[Callback]) -> Iterator[None]:
    own = trainer.callbacks
    trainer.callbacks = [*own, *callbacks]
    try:
        yield
    finally:
        trainer.callbacks = own


def _check_share(work: Path, units: list[Unit]) -> None:
    """Make sure that this process wrote all of its shards: an option of the Trainer may have ended it early."""
    left = [unit for unit in units if not shard_path(work, unit.modality, unit.shard).exists()]
    if left:
        raise ConfigError(
            f"the run ended with {len(left)} of {len(units)} shards left to do. Take limit_predict_batches, "
            "fast_dev_run and the like out of the trainer's options and run the same command again."
        )


def _wait_for_the_others(work: Path, state: RunState) -> None:
    """Wait until every shard is there. No barrier: those give up after half an hour."""
    while missing_units(work, state):
        time.sleep(_POLL_SECONDS)

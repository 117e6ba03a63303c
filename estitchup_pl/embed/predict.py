"""The run as Lightning sees it: a module around the encoders, a data module around the units of work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from tqdm import tqdm

from estitchup_pl.embed.embedder import Embedder
from estitchup_pl.embed.pipeline import BatchStream, Feed, WorkBatch
from estitchup_pl.embed.planning import Request, start_run
from estitchup_pl.embed.sources import open_root
from estitchup_pl.embed.staging import Source, StagedItems
from estitchup_pl.embed.state import RunState, weights_digest
from estitchup_pl.embed.workspace import STAGE_NAME, WORK_NAME, Unit, missing_units
from estitchup_pl.errors import ConfigError, DataError

OnError = Literal["fail", "missing"]


@dataclass
class Modality:
    """One modality of the store: which column goes through which encoder.

    Attributes:
        column: Column of the input table.
        embedder: The encoder.
        root: Folder or zip file that the column's paths are relative to; the encoder then gets the files' bytes.
            By default what the reader of the table says, if anything.
        pattern: Path of an item's file where the column holds something else, e.g. ``images/{}.jpg``: ``{}``
            stands for the value.
        batch_size: Values in a batch; does not change the embeddings beyond rounding.
        dtype: How the embeddings are stored.
    """

    column: str
    embedder: Embedder
    root: str | None = None
    pattern: str | None = None
    batch_size: int = 64
    dtype: Literal["float16", "float32"] = "float16"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size: expected at least 1, got {self.batch_size}")
        if self.pattern is not None and "{}" not in self.pattern:
            raise ConfigError(f"pattern: expected {{}} where the value is to stand, got {self.pattern!r}")

    @property
    def source(self) -> Source:
        """Where the values stand."""
        return Source(self.column, self.pattern)

    def settings(self) -> dict[str, Any]:
        """Everything that decides the embeddings; the embedder must be loaded."""
        encoder = {**self.embedder.fingerprint(), "weights": weights_digest(self.embedder)}
        return {"column": self.column, "pattern": self.pattern, "dtype": self.dtype, "embedder": encoder}


class EncoderModule(LightningModule):
    """Hands each batch to the embedder of its modality.

    Args:
        embedders: Embedder of each modality, loaded.
    """

    def __init__(self, embedders: Mapping[str, Embedder]) -> None:
        super().__init__()
        self._embedders = dict(embedders)
        self._registered = nn.ModuleList(embedders.values())  # a ModuleDict refuses names with dots

    def predict_step(self, batch: WorkBatch, batch_idx: int) -> Tensor:
        """Embed one batch: float ``(batch, dim)``.

        Raises:
            ConfigError: If the embedder returns another shape.
        """
        embedder = self._embedders[batch.unit.modality]
        if batch.inputs is None:
            return torch.empty(0, embedder.dim, device=self.device)
        embeddings: Tensor = embedder.embed(batch.inputs)
        expected = (int(batch.source[-1]) + 1, embedder.dim)
        if tuple(embeddings.shape) != expected:
            raise ConfigError(
                f"modality {batch.unit.modality!r}: {type(embedder).__name__}.embed returned shape "
                f"{tuple(embeddings.shape)} for a batch that needs {expected}"
            )
        return embeddings.to(self.device)


class UnitsDataModule(LightningDataModule):
    """Starts the run on one process and deals its units out to all of them.

    Args:
        request: What to embed; its settings are filled in here.
        modalities: The modalities, their embedders loaded.
        workers: Threads that prepare values.
        on_error: Whether a value that cannot be embedded ends the run.

    Raises:
        ConfigError: For a ``root`` that is not there.
    """

    def __init__(self, request: Request, modalities: Mapping[str, Modality], workers: int, on_error: OnError) -> None:
        super().__init__()
        self.prepare_data_per_node = False
        self._request = request
        self._modalities = modalities
        self._read_file = {name: self._file_reader(modality) for name, modality in modalities.items()}
        self._workers = workers
        self._on_error = on_error
        self.pending: list[Unit] = []
        self.units: list[Unit] = []

    @property
    def _attached(self) -> Trainer:
        if self.trainer is None:
            raise ConfigError("this data module runs inside Trainer.predict only")
        return self.trainer

    @property
    def work(self) -> Path:
        """Folder of the run."""
        return self._request.out / WORK_NAME

    def prepare_data(self) -> None:
        """Start the run: begin, go on, or append; on the first process only, the others wait."""
        settings = {name: modality.settings() for name, modality in self._modalities.items()}
        start_run(replace(self._request, settings=settings))

    def setup(self, stage: str) -> None:
        """Find out what is left to do, and take this process's share of it: whole shards, in turn."""
        self._items = StagedItems(self.work / STAGE_NAME)
        self.pending = missing_units(self.work, RunState.read(self.work))
        self.units = self.pending[self._attached.global_rank :: self._attached.world_size]

    def predict_dataloader(self) -> BatchStream:
        """Batches of this process's units."""
        feeds = {
            name: Feed(
                modality.embedder,
                self._items.reader(modality.source),
                self._read_file[name],
                modality.batch_size,
            )
            for name, modality in self._modalities.items()
        }
        on_gpu = self._attached.strategy.root_device.type == "cuda"
        return BatchStream(self.units, feeds, self._workers, pin_memory=on_gpu)

    def transfer_batch_to_device(self, batch: WorkBatch, device: torch.device, dataloader_idx: int) -> WorkBatch:
        """Move a batch to the device, its inputs in the Trainer's precision."""
        return batch.to_device(device, self._attached.precision_plugin.convert_input)

    def row_failed(self, modality: str, row: int, why: str) -> None:
        """Take note of a row that cannot be embedded.

        Raises:
            DataError: With ``on_error="fail"``.
        """
        if self._on_error == "fail":
            identifier = str(self._items.reader(Source("id"))(row, row + 1)[0])
            raise DataError(
                f"modality {modality!r}, row {row} (id {identifier!r}): {why}. Mend the item, or set on_error: "
                "missing to leave it without this modality. Whole shards are kept: the same command goes on."
            )

    def _file_reader(self, modality: Modality) -> Callable[[str], bytes] | None:
        root = modality.root or self._request.items.file_roots.get(modality.column)
        return None if root is None else open_root(root)


class ProgressLine(Callback):
    """Rows done, rows per second and time left, for the share of the first process."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the line; in a file that is not a terminal it is written twice a minute."""
        units = trainer.datamodule.units  # type: ignore[attr-defined]
        self._bar = tqdm(
            total=sum(unit.stop - unit.start for unit in units),
            unit="row",
            disable=not trainer.is_global_zero or not units,
            mininterval=0.2 if sys.stderr.isatty() else 30.0,
            dynamic_ncols=True,
        )

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: WorkBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the rows of a batch."""
        if self._bar is not None:
            share = f" (1 of {trainer.world_size} processes)" if trainer.world_size > 1 else ""
            self._bar.set_description(batch.unit.modality + share, refresh=False)
            self._bar.update(batch.done)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the line."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the line, so that the error stands on its own."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()

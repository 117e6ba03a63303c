"""Predictions as one file, whatever the number of processes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from estitchup_pl.batch import EmbeddingBatch
from estitchup_pl.callbacks.partners import classifier, data_module
from estitchup_pl.callbacks.prediction_file import WRITERS
from estitchup_pl.errors import ConfigError
from estitchup_pl.locking import locked_file
from estitchup_pl.store.files import atomic_path, writing


class PredictionWriter(pl.Callback):
    """Writes one row for each predicted item: its id, class or "none", confidence and the most likely classes.

    Each process writes its rows to a part of its own as they come; at the end the parts are merged in row order
    and the file appears under its name, whole. Columns: ``id``, ``predicted`` (class name or ``"none"``),
    ``confidence`` (calibrated probability of the most likely class), ``none_score`` (the score of "none"; the item is
    "none" where one minus it is not above the threshold), ``threshold`` (the same in every row, null where none has
    been fitted), ``top_classes`` and ``top_probabilities`` (lists, most likely first).

    Args:
        path: The file to write: ``.parquet``, or ``.csv``, where each list becomes as many columns (``top_classes_1``,
            ``top_classes_2`` …).
        top_k: Number of most likely classes to write, at least 1.
        overwrite: Whether to replace an existing file.

    Raises:
        ConfigError: If ``top_k`` is below 1, the file is of another kind, or exists and ``overwrite`` is false.
        WriteError: If the disk is full or read-only, or another command is writing the file.
    """

    def __init__(self, path: str | Path = "predictions.parquet", top_k: int = 5, overwrite: bool = False) -> None:
        if top_k < 1:
            raise ConfigError(f"top_k must be at least 1, got {top_k}")
        self.path = Path(path)
        if self.path.suffix not in WRITERS:
            raise ConfigError(f"predictions are written as {' or '.join(WRITERS)}: name the file so, got {self.path}")
        self.top_k = top_k
        self.overwrite = overwrite
        self._writer: pq.ParquetWriter | None = None
        self._held = ExitStack()

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse to lose an older file, and open this process's part."""
        classifier(pl_module, self)
        if data_module(trainer) is None:
            raise ConfigError("PredictionWriter needs an EmbeddingDataModule, whose store knows the items' ids")
        if self.path.exists() and not self.overwrite:
            raise ConfigError(f"{self.path} exists: choose another path, or overwrite it (overwrite=true)")
        if trainer.is_global_zero:
            self._held.enter_context(locked_file(self.path))
        trainer.strategy.barrier("predictions")  # nobody creates what another process still looks for
        part = self._part(trainer.global_rank)
        with writing(self.path, part):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._held.callback(part.unlink, missing_ok=True)
            self._writer = pq.ParquetWriter(part, _SCHEMA)

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: EmbeddingBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Append a batch to this process's part."""
        if self._writer is not None and len(outputs["rows"]):
            model = classifier(pl_module, self)
            names = (*model.class_names, "none")  # NONE, which is -1, finds the last
            threshold = model.threshold if model.decision.has_threshold else None
            with writing(self.path):
                self._writer.write_table(self._table(outputs, threshold, names))

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Merge the parts in row order, once all processes have closed theirs."""
        with writing(self.path):
            self._close()
        trainer.strategy.barrier("predictions")
        data = data_module(trainer)
        if trainer.is_global_zero and data is not None:
            parts = [self._part(rank) for rank in range(trainer.world_size)]
            self._merge(parts, data.store.column("id"))
        trainer.strategy.barrier("predictions")
        self._held.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave no part behind."""
        with suppress(OSError):  # a full disk says so once more
            self._close()
        self._held.close()

    def _table(self, prediction: dict[str, Tensor], threshold: float | None, names: Sequence[str]) -> pa.Table:
        probabilities = prediction["probabilities"]
        top = probabilities.topk(min(self.top_k, probabilities.shape[-1]), dim=-1)
        width = top.indices.shape[-1]
        flat = top.indices.flatten().tolist()
        return pa.table(
            {
                "row": prediction["rows"].cpu().numpy(),
                "predicted": [names[index] for index in prediction["predicted"].tolist()],
                "confidence": top.values[:, 0].cpu().numpy(),
                "none_score": prediction["none_scores"].cpu().numpy(),
                "threshold": pa.array([threshold] * len(flat[::width]), pa.float32()),
                "top_classes": _lists(pa.array([names[index] for index in flat]), width),
                "top_probabilities": _lists(pa.array(top.values.flatten().cpu().numpy()), width),
            },
            schema=_SCHEMA,
        )

    def _merge(self, parts: Sequence[Path], items: pa.ChunkedArray) -> None:
        # Every part is in row order and starts where the one before it ends (EvenBatches), so nothing is sorted.
        schema = pa.schema([pa.field("id", pa.string()), *list(_SCHEMA)[1:]])
        with atomic_path(self.path) as temporary, WRITERS[self.path.suffix](temporary, schema) as writer:
            for part in parts:
                for batch in pq.ParquetFile(part).iter_batches():
                    ids = items.take(batch.column("row")).cast(pa.string()).combine_chunks()
                    writer.write_batch(pa.record_batch([ids, *batch.columns[1:]], schema=schema))

    def _part(self, rank: int) -> Path:
        return self.path.with_name(f".{self.path.name}.{rank}")

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


_SCHEMA = pa.schema(
    {
        "row": pa.int64(),
        "predicted": pa.string(),
        "confidence": pa.float32(),
        "none_score": pa.float64(),
        "threshold": pa.float32(),
        "top_classes": pa.list_(pa.string()),
        "top_probabilities": pa.list_(pa.float32()),
    }
)


def _lists(values: pa.Array, width: int) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(values, width).cast(pa.list_(values.type))

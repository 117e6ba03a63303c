"""Predictions as a parquet file, whatever the number of processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from estitchup_pl.batch import EmbeddingBatch
from estitchup_pl.callbacks.partners import classifier, data_module
from estitchup_pl.errors import ConfigError
from estitchup_pl.store.files import atomic_path


class PredictionWriter(pl.Callback):
    """Writes one row for each predicted item: its id, class or "none", confidence and the most likely classes.

    Each process writes its rows to a part of its own as they come; at the end the parts are merged in row order
    and the file appears under its name, whole. Columns: ``id``, ``predicted`` (class name or ``"none"``),
    ``confidence`` (calibrated probability of the most likely class), ``none_score`` (the score of "none"; the item is
    "none" where one minus it is not above the threshold), ``threshold`` (the same in every row, null where none has
    been fitted), ``top_classes`` and ``top_probabilities`` (lists, most likely first).

    Args:
        path: The parquet file to write, ``….parquet``.
        top_k: Number of most likely classes to write, at least 1.
        overwrite: Whether to replace an existing file.

    Raises:
        ConfigError: If ``top_k`` is below 1, the file is named as one of another kind, or it exists and
            ``overwrite`` is false.
    """

    def __init__(self, path: str | Path = "predictions.parquet", top_k: int = 5, overwrite: bool = False) -> None:
        if top_k < 1:
            raise ConfigError(f"top_k must be at least 1, got {top_k}")
        self.path = Path(path)
        if self.path.suffix != ".parquet":
            raise ConfigError(
                f"{path}: predictions are written as parquet, with lists in their cells: name the file "
                f"{self.path.stem or 'predictions'}.parquet (pandas.read_parquet reads it, and to_csv writes a table)"
            )
        self.top_k = top_k
        self.overwrite = overwrite
        self._writer: pq.ParquetWriter | None = None

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse to lose an older file, and open this process's part."""
        classifier(pl_module, self)
        if data_module(trainer) is None:
            raise ConfigError("PredictionWriter needs an EmbeddingDataModule, whose store knows the items' ids")
        if self.path.exists() and not self.overwrite:
            raise ConfigError(f"{self.path} exists: choose another path, or overwrite it (overwrite=true)")
        trainer.strategy.barrier("predictions")  # nobody creates what another process still looks for
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(self._part(trainer.global_rank), _SCHEMA)

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
            self._writer.write_table(self._table(outputs, threshold, names))

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Merge the parts in row order, once all processes have closed theirs."""
        self._close()
        trainer.strategy.barrier("predictions")
        data = data_module(trainer)
        if trainer.is_global_zero and data is not None:
            parts = [self._part(rank) for rank in range(trainer.world_size)]
            self._merge(parts, data.store.column("id"))
        trainer.strategy.barrier("predictions")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave no part behind."""
        self._close()
        self._part(trainer.global_rank).unlink(missing_ok=True)

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
        with atomic_path(self.path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
            for part in parts:
                for batch in pq.ParquetFile(part).iter_batches():
                    ids = items.take(batch.column("row")).cast(pa.string()).combine_chunks()
                    writer.write_batch(pa.record_batch([ids, *batch.columns[1:]], schema=schema))
        for part in parts:
            part.unlink()

    def _part(self, rank: int) -> Path:
        return self.path.with_name(f".{self.path.name}.{rank}")

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


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

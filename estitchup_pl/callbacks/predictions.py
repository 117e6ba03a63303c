"""Predictions as one file, whatever the number of processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pyarrow as pa
import pyarrow.parquet as pq

from estitchup_pl.batch import EmbeddingBatch
from estitchup_pl.callbacks.partners import classifier, data_module
from estitchup_pl.callbacks.prediction_file import WRITERS, BatchWriter, fixed_lists
from estitchup_pl.callbacks.prediction_summary import PredictionSummary
from estitchup_pl.callbacks.prediction_table import file_schema, part_schema, said_of_rows, with_items
from estitchup_pl.data.trained_rows import trained_rows
from estitchup_pl.errors import ConfigError
from estitchup_pl.functional import level_quantile
from estitchup_pl.locking import locked_file
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.files import atomic_path, writing
from estitchup_pl.store.gaps import find_gaps


class PredictionWriter(pl.Callback):
    """Writes one row for each predicted item: its id, class or "none", confidence and the most likely classes.

    Each process writes its rows to a part of its own as they come; at the end the parts are merged in row order
    and the file appears under its name, whole. Columns:

    - ``id``, in the type that it has where the store was made of: text, or whole numbers;
    - ``predicted``: class name or ``"none"``; null, as the columns up to the prediction set, where nothing of the item
      could be embedded;
    - ``confidence``: calibrated probability of the most likely class;
    - ``none_score``: the item is "none" where one minus it is not above the threshold;
    - ``threshold``: the same in every row, null where none has been fitted;
    - ``top_classes`` and ``top_probabilities``: lists, most likely first;
    - ``prediction_set``: list of classes that holds the right one of an item of a known class as often as ``level``
      says; left out where the checkpoint has no validation rows to find it by;
    - ``trained_on``: whether the row trained the model, null where that is not known;
    - ``problem``: which modalities the item lacks and why, null where none.

    Args:
        path: The file to write: ``.parquet``, or ``.csv``, where each list of the most likely becomes as many columns
            (``top_classes_1``, ``top_classes_2`` …) and a prediction set JSON.
        top_k: Number of most likely classes to write, at least 1.
        overwrite: Whether to replace an existing file.
        level: Share of the items of known classes whose prediction set is to hold their class, in ``(0, 1)``.

    Attributes:
        summary: Counts of the file, on the first process once it is there.

    Raises:
        ConfigError: If ``top_k`` is below 1, ``level`` no share, the file is of another kind, or exists and
            ``overwrite`` is false.
        WriteError: If the disk is full or read-only, or another command is writing the file.
    """

    def __init__(
        self,
        path: str | Path = "predictions.parquet",
        top_k: int = 5,
        overwrite: bool = False,
        level: float = 0.9,
    ) -> None:
        if top_k < 1:
            raise ConfigError(f"top_k must be at least 1, got {top_k}")
        if not 0 < level < 1:
            raise ConfigError(f"level: expected a share between 0 and 1, got {level}")
        self.path = Path(path)
        if self.path.suffix not in WRITERS:
            raise ConfigError(f"predictions are written as {' or '.join(WRITERS)}: name the file so, got {self.path}")
        self.top_k = top_k
        self.overwrite = overwrite
        self.level = level
        self.summary: PredictionSummary | None = None
        self._writer: pq.ParquetWriter | None = None
        self._held = ExitStack()

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse to lose an older file, and open this process's part."""
        model = classifier(pl_module, self)
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
            self._writer = pq.ParquetWriter(part, part_schema(model.decision))

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
            with writing(self.path):
                said = said_of_rows(outputs, model.decision, model.class_names, self.top_k, self.level)
                self._writer.write_table(said)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Merge the parts in row order, once all processes have closed theirs."""
        with writing(self.path):
            self._close()
        trainer.strategy.barrier("predictions")
        data = data_module(trainer)
        if trainer.is_global_zero and data is not None:
            parts = [self._part(rank) for rank in range(trainer.world_size)]
            self._merge(parts, classifier(pl_module, self), data.store)
        trainer.strategy.barrier("predictions")
        self._held.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave no part behind."""
        with suppress(OSError):  # a full disk says so once more
            self._close()
        self._held.close()

    def write_nothing(self, model: EmbeddingClassifier, ids: pa.DataType) -> PredictionSummary:
        """Write a file without a row, where there is no item to decide about.

        Raises:
            WriteError: If the disk is full or read-only, or another command is writing the file.
        """
        with locked_file(self.path), self._file(model, ids):
            return self._summary_for(model)

    def _merge(self, parts: Sequence[Path], model: EmbeddingClassifier, store: EmbeddingStore) -> None:
        # Every part is in row order and starts where the one before it ends (EvenBatches), so nothing is sorted.
        ids, gaps = store.ids, find_gaps(store, model.modalities)
        summary = self._summary_for(model)
        with self._file(model, ids.type) as (schema, writer):
            for part in parts:
                for batch in pq.ParquetFile(part).iter_batches():
                    rows = batch.column("row")
                    named = ids.take(rows).combine_chunks()
                    columns = with_items(batch, named, gaps, trained_rows(named, model.trained_on))
                    cast = [column.cast(kind) for column, kind in zip(columns, schema.types, strict=True)]
                    written = pa.record_batch(cast, schema=schema)
                    writer.write_batch(written)
                    summary.add(written)
        self.summary = summary

    @contextmanager
    def _file(self, model: EmbeddingClassifier, ids: pa.DataType) -> Iterator[tuple[pa.Schema, BatchWriter]]:
        """Open the file under a temporary name; it is there when the body ends well."""
        schema = file_schema(part_schema(model.decision), ids)
        if self.path.suffix == ".csv":
            width = min(self.top_k, len(model.class_names))
            schema = fixed_lists(schema, {"top_classes": width, "top_probabilities": width})
        with atomic_path(self.path) as temporary, WRITERS[self.path.suffix](temporary, schema) as writer:
            yield schema, writer

    def _summary_for(self, model: EmbeddingClassifier) -> PredictionSummary:
        unlikely = model.decision.unlikely
        return PredictionSummary(
            self.path,
            has_threshold=model.decision.has_threshold,
            sets=None if unlikely is None else self.level,
            large_sets=unlikely is not None and level_quantile(unlikely, self.level) == 1,
        )

    def _part(self, rank: int) -> Path:
        return self.path.with_name(f".{self.path.name}.{rank}")

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

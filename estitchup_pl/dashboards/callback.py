"""The callback that tells loggers what a run is and what it has found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from torch import Tensor
from typing_extensions import override

from estitchup_pl.batch import EmbeddingBatch
from estitchup_pl.callbacks.deciding import fitting_parts
from estitchup_pl.callbacks.evaluated import RowCollector
from estitchup_pl.callbacks.partners import classifier, data_module
from estitchup_pl.dashboards.boards import Board, board_of
from estitchup_pl.dashboards.description import FOUND, described_run, record_of, what_was_found
from estitchup_pl.errors import ConfigError


class Dashboard(pl.Callback):
    """Tells every logger what a run is, and those that take pictures what it has found; ``estitchup fit`` has it.

    When a fit begins, all loggers get its whole configuration, nested, with classes, modalities, encoders and rows.
    After each epoch they get the learning rate, ``train/lr``. When it ends, W&B, TensorBoard and MLflow get figures of
    the last validation (reliability, accuracy over thresholds, risk over coverage, confidences), a table of the classes
    and one of the items near the threshold, and the checkpoint. A ``test`` gets figures and tables of the test rows.

    From Python it goes last in the list of callbacks.

    Args:
        items: Number of items near the threshold to show.
        texts: Columns of the store's items to show with them. Default: the first four with texts.
        picture: Column of the store's items with their pictures, or with the paths of picture files. Default: the first
            column that holds pictures.
        root: Folder or zip file that these paths are relative to. Default: the working directory.
        checkpoint: Whether the checkpoint is logged too, as an artifact.

    Attributes:
        config: Content of the configuration file; the commands hand it over. Without one, what is logged is read from
            the objects.

    Raises:
        ConfigError: If ``items`` is negative.
    """

    def __init__(
        self,
        items: int = 24,
        texts: Sequence[str] | None = None,
        picture: str | None = None,
        root: str | None = None,
        checkpoint: bool = True,
    ) -> None:
        if items < 0:
            raise ConfigError(f"items must not be negative, got {items}")
        self.items = items
        self.texts = texts
        self.picture = picture
        self.root = root
        self.checkpoint = checkpoint
        self.config: Mapping[str, Any] | None = None
        self._runs: dict[str, dict[str, Any]] = {}
        self._collector: RowCollector | None = None

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"runs": self._runs} if self._runs else {}  # where `test` finds the run that it is to join

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin(trainer, pl_module, "fit")
        boards = {type(logger).__name__: board_of(logger) for logger in _loggers(trainer)}
        named = {name: board.run for name, board in boards.items() if board is not None}
        self._runs = trainer.strategy.broadcast(named)

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._begin(trainer, pl_module, "validate")

    @override
    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin(trainer, pl_module, "test")

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
        for number, rate in enumerate(rates):
            pl_module.log(f"train/lr_{number}" if number else "train/lr", float(rate), rank_zero_only=True)

    @override
    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._collect_anew(trainer, pl_module)

    @override
    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._collect_anew(trainer, pl_module)

    @override
    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: EmbeddingBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._collector is not None and isinstance(outputs, Mapping) and "logits" in outputs:
            self._collector.update(batch, outputs["logits"])

    on_test_batch_end = on_validation_batch_end

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._show(trainer, pl_module, "val")

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._show(trainer, pl_module, "val")

    @override
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._show(trainer, pl_module, "test")

    @override
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not (self.checkpoint and trainer.is_global_zero):
            return
        kept = [each.best_model_path for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
        for path in map(Path, filter(None, kept)):
            for board in _boards(trainer) if path.is_file() else ():
                board.checkpoint(path)

    def _begin(self, trainer: pl.Trainer, pl_module: pl.LightningModule, command: str) -> None:
        if not trainer.is_global_zero:
            return
        model, data = classifier(pl_module, self), data_module(trainer)
        config = described_run(trainer, model) if self.config is None else record_of(self.config)
        record = {**config, FOUND: what_was_found(model, data)}
        for logger in _loggers(trainer):
            board = board_of(logger)
            if board is None:
                logger.log_hyperparams(record)
            else:
                board.describe(command, record)

    def _collect_anew(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._collector = None
        if trainer.sanity_checking or not any(board_of(logger) is not None for logger in _loggers(trainer)):
            return
        model = classifier(pl_module, self)
        needed = model.decision.score is not None or any(part.needs_embeddings for part in fitting_parts(trainer))
        self._collector = RowCollector(needed).to(model.device)

    def _show(self, trainer: pl.Trainer, pl_module: pl.LightningModule, part: str) -> None:
        """Log figures and tables of the rows that were last evaluated."""
        collector, self._collector = self._collector, None
        if collector is None or not collector.update_called:
            return
        rows = collector.compute()  # of all processes
        if trainer.is_global_zero and len(rows.rows):
            from estitchup_pl.dashboards.showing import Items, shown  # with the report: longer than a short fit

            items = Items(self.items, self.texts, self.picture, self.root)
            found = shown(classifier(pl_module, self), rows, data_module(trainer), items)
            for board in _boards(trainer):
                for name, png in found.pictures.items():
                    board.picture(f"{part}/{name}", png, trainer.global_step)
                for name, table in found.tables.items():
                    board.table(f"{part}/{name}", table, trainer.global_step)


def _loggers(trainer: pl.Trainer) -> list[Logger]:
    loggers: list[Logger] = trainer.loggers
    return loggers


def _boards(trainer: pl.Trainer) -> list[Board]:
    return [board for logger in _loggers(trainer) if (board := board_of(logger)) is not None]

"""What the callbacks that fit a part of the decision have in common: when they do it, and on which rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from estitchup_pl.batch import EmbeddingBatch
from estitchup_pl.callbacks.evaluated import EvaluatedRows, RowCollector
from estitchup_pl.callbacks.partners import classifier, data_module
from estitchup_pl.errors import ConfigError
from estitchup_pl.model.classifier import EmbeddingClassifier


class DecisionCallback(pl.Callback, ABC):
    """Fits a part of the decision on the validation rows; subclass and implement :meth:`fit_decision`.

    All callbacks of this kind in a fit work together: after each validation they fit their parts one after the other,
    by their :attr:`rank`, whatever their order in the list. What has been fitted belongs to the weights that were
    validated, and is void as soon as they are trained on; so the end of a fit validates once more where the last epoch
    has not, however it ends. A checkpoint holds the decision of its own weights, or none.

    Attributes:
        rank: Parts of lower rank are fitted first: calibration 0, threshold 1.
    """

    rank: ClassVar[int]

    _collector: RowCollector
    _fitted: bool = False
    _concluded: bool = False

    @abstractmethod
    def fit_decision(self, trainer: pl.Trainer, model: EmbeddingClassifier, rows: EvaluatedRows) -> None:
        """Fit this part of ``model.decision``, in which the parts of lower rank are fitted already.

        Args:
            trainer: The trainer.
            model: The classifier, in evaluation mode.
            rows: Validation rows of all processes, each once, in the order of their numbers.
        """

    def conclude(self, trainer: pl.Trainer, model: EmbeddingClassifier) -> None:
        """Do what is worth doing once, for the last weights of a fit: before they are saved, with all parts fitted."""

    @property
    def fits(self) -> bool:
        """Whether there is something to fit, rather than to take over."""
        return True

    @property
    def needs_embeddings(self) -> bool:
        """Whether :meth:`fit_decision` reads the embeddings of the rows."""
        return False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check that there will be validation rows to fit on.

        Raises:
            ConfigError: If there will be none.
        """
        classifier(pl_module, self)
        if not self._leads(trainer):
            return
        self._fitted = self._concluded = False
        data = data_module(trainer)
        if data is not None and not data.parts.val.size:
            raise ConfigError(
                f"{type(self).__name__} is fitted on validation rows, and all rows train: give it a ThresholdSplit of "
                "this split (data.split), and take the checkpoint over (OODThreshold's checkpoint)"
            )
        if not trainer.limit_val_batches:
            raise ConfigError(
                f"{type(self).__name__} is fitted on validation rows, and trainer.limit_val_batches=0 leaves none: "
                "raise it, or take out the callback"
            )
        if data is not None and data.validates_on_test_rows:
            rank_zero_warn(
                f"the validation rows are the test rows too, so what {type(self).__name__} fits on them looks better "
                "in test than it is; fit it with data.split=ThresholdSplit and hand it over with OODThreshold's "
                "checkpoint"
            )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: EmbeddingBatch, batch_idx: int
    ) -> None:
        """Note that the weights change; the module voids the decision."""
        self._fitted = self._concluded = False

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to collect rows, judged by the paper's score until the decision is fitted."""
        if self._leads_in_fit(trainer):
            keeps_embeddings = any(part.needs_embeddings for part in fitting_parts(trainer))
            self._collector = RowCollector(keeps_embeddings).to(pl_module.device)
            model = classifier(pl_module, self)
            model.decision = model.decision.given_parts()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: EmbeddingBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take in a batch."""
        if self._leads_in_fit(trainer):
            if not isinstance(outputs, Mapping) or "logits" not in outputs:
                raise ConfigError(
                    f"{type(self).__name__} needs {type(pl_module).__name__}.validation_step to return a dictionary "
                    "with 'logits', as its method outputs returns them"
                )
            self._collector.update(batch, outputs["logits"])

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Fit all parts; the module computes and logs its metrics right after."""
        if not self._leads_in_fit(trainer):
            return
        model, rows = classifier(pl_module, self), self._collector.compute()
        for part in fitting_parts(trainer):
            part.fit_decision(trainer, model, rows)
        model.decision.learn_sets(rows.logits, rows.labels)
        self._fitted = True
        if model.decision.calibrator or model.decision.score:
            mine = self._collector.of_this_process()
            model.judge_validation_again(mine.batch(), mine.members)
        self._collector.reset()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate the last epoch before it is saved, where Lightning has not, and conclude."""
        ends = trainer.current_epoch + 1 == trainer.max_epochs or trainer.global_step == trainer.max_steps
        if (ends or trainer.should_stop) and self._leads(trainer):
            self._end(trainer, classifier(pl_module, self))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do so where the fit was stopped when its last epoch was over, and save its checkpoints again."""
        if self._leads(trainer) and not self._concluded:
            self._end(trainer, classifier(pl_module, self))
            _save_again(trainer)

    def _end(self, trainer: pl.Trainer, model: EmbeddingClassifier) -> None:
        if not self._fitted:
            _validate(trainer)
        for part in fitting_parts(trainer):
            part.conclude(trainer, model)
        self._concluded = True

    def _leads(self, trainer: pl.Trainer) -> bool:
        """Whether it is this callback that collects rows for all."""
        return fitting_parts(trainer)[:1] == [self]

    def _leads_in_fit(self, trainer: pl.Trainer) -> bool:
        return trainer.state.fn == "fit" and not trainer.sanity_checking and self._leads(trainer)


def fitting_parts(trainer: pl.Trainer) -> list[DecisionCallback]:
    """Callbacks that fit a part of the decision, in the order in which they do."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    found = [callback for callback in callbacks if isinstance(callback, DecisionCallback) and callback.fits]
    return sorted(found, key=lambda part: part.rank)


def _validate(trainer: pl.Trainer) -> None:
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True


def _save_again(trainer: pl.Trainer) -> None:
    """Write the checkpoints once more that hold the weights of now."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint):
            named = {callback.best_model_path, callback.last_model_path, *callback.best_k_models}
            current = [path for path in sorted(named) if _step_of(path) == trainer.global_step]
            for path in trainer.strategy.broadcast(current):
                trainer.save_checkpoint(path, callback.save_weights_only)


def _step_of(path: str) -> int | None:
    if not Path(path).is_file():
        return None
    step: int = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"]
    return step

"""Fits without training by gradients: linear heads solved at once, and weights that stay as they are."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from torch.optim import Optimizer
from typing_extensions import override

from estitchup_pl.batch import EmbeddingBatch
from estitchup_pl.callbacks.augmentation import Augmentation
from estitchup_pl.callbacks.partners import classifier, data_module
from estitchup_pl.callbacks.softening import LabelSoftening
from estitchup_pl.errors import ConfigError
from estitchup_pl.functional.linear import LinearMap
from estitchup_pl.model.heads import HeadSolver, LinearHead, LogisticRegression


class WithoutTraining(pl.Callback):
    """Makes a fit leave the weights as they are: it takes one batch, validates, saves its checkpoint and ends.

    What other callbacks fit on validation rows, such as ``Calibration`` and ``OODThreshold``, belongs to these weights
    then. Use it for an ensemble (:func:`~estitchup_pl.model.ensemble_of`), or for another threshold of a model that
    there is.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Shorten the fit, whatever the trainer's options say."""
        self._options = trainer.limit_train_batches, trainer.check_val_every_n_epoch
        trainer.limit_train_batches, trainer.check_val_every_n_epoch = 1, 1

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the trainer its options back."""
        trainer.limit_train_batches, trainer.check_val_every_n_epoch = self._options

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse what changes batches that nothing is trained on.

        Raises:
            ConfigError: If there is an augmentation or label softening among the callbacks.
        """
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        for callback in callbacks:
            if isinstance(callback, Augmentation | LabelSoftening):
                raise ConfigError(
                    f"{type(self).__name__} trains on no batch, so {type(callback).__name__} would change nothing: "
                    "take one of them out"
                )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: EmbeddingBatch, batch_idx: int
    ) -> None:
        """End the fit after this batch and a validation."""
        trainer.should_stop = True

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Take the gradients away; an optimizer leaves parameters without one alone."""
        optimizer.zero_grad(set_to_none=True)


class FitHead(WithoutTraining):
    """Fits a :class:`~estitchup_pl.model.LinearHead` to all training rows at once, in place of training it.

    The fit then validates once, saves its checkpoint and ends. The same rows give the same weights, so a fit that is
    resumed ends with them as well. With several processes the first one solves.

    Args:
        solver: How it is fitted. Default: logistic regression, its penalty chosen.

    Raises:
        ConfigError: When the fit begins, if the network is another or there is no ``EmbeddingDataModule``.

    Example:
        >>> FitHead().solver
        LogisticRegression(penalty=None, penalties=None, folds=4)
    """

    def __init__(self, solver: HeadSolver | None = None) -> None:
        self.solver = solver or LogisticRegression()

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        network = classifier(pl_module, self).network
        if not isinstance(network, LinearHead):
            raise ConfigError(
                f"{type(self).__name__} fits a LinearHead, and the network is {type(network).__name__}: "
                "--model.network LinearHead"
            )
        solved = self._solve(trainer, pl_module) if trainer.is_global_zero else None
        if fitted := trainer.strategy.broadcast(solved):
            network.load(fitted)

    def _solve(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> LinearMap:
        data, scale = data_module(trainer), classifier(pl_module, self).scale
        if data is None:
            raise ConfigError(f"{type(self).__name__} takes training rows from an EmbeddingDataModule: fit with one")
        batches = list(data.training_rows())
        embeddings = torch.cat([scale(batch.embeddings.to(pl_module.device)) for batch in batches])
        labels = torch.cat([batch.labels for batch in batches]).to(pl_module.device)
        return self.solver.solve(embeddings, labels)

"""The classifier and the data module that a callback works with, known by their type."""

from __future__ import annotations

import lightning.pytorch as pl

from estitchup_pl.data.datamodule import EmbeddingDataModule
from estitchup_pl.errors import ConfigError
from estitchup_pl.model.classifier import EmbeddingClassifier


def classifier(module: pl.LightningModule, callback: pl.Callback) -> EmbeddingClassifier:
    """The module as the classifier that it has to be.

    Raises:
        ConfigError: If it is another module.
    """
    if isinstance(module, EmbeddingClassifier):
        return module
    raise ConfigError(
        f"{type(callback).__name__} works with an EmbeddingClassifier or a subclass of it, got {type(module).__name__}"
    )


def data_module(trainer: pl.Trainer) -> EmbeddingDataModule | None:
    """The data module of a trainer, if it is one of this package."""
    data = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning's data connector, None at first
    return data if isinstance(data, EmbeddingDataModule) else None

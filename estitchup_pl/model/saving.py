"""Checkpoints of classifiers that no Trainer holds."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import instantiate_module

from estitchup_pl.errors import ConfigError
from estitchup_pl.model.checkpoint_io import AtomicCheckpointIO
from estitchup_pl.model.classifier import EmbeddingClassifier


def described(model: EmbeddingClassifier, description: Mapping[str, Any]) -> EmbeddingClassifier:
    """Let a classifier know what it was made from, so that its checkpoint can be loaded without being told again.

    A network or loss that is given as a Python object is nothing that a checkpoint can hold; its description is.

    Args:
        model: The classifier, which knows its classes and modalities.
        description: ``class_path`` and ``init_args`` in plain values, as YAML has them.

    Returns:
        The classifier.
    """
    maker = f"{instantiate_module.__module__}.{instantiate_module.__name__}"
    made = {"_class_path": description["class_path"], "_instantiator": maker}
    model.hparams.update({**description["init_args"], **_data_of(model), **made})
    return model


def save_classifier(model: EmbeddingClassifier, path: str | Path) -> None:
    """Write the checkpoint of a fitted classifier, whole or not at all, as a fit does.

    It is tested, predicted with, exported and loaded like any other. A fit can begin from it
    (:meth:`~estitchup_pl.EmbeddingClassifier.load_from_checkpoint`), but not be resumed: there is no optimizer in it.

    Args:
        model: The classifier.
        path: The file.

    Raises:
        ConfigError: If the classifier has no network yet.
        CheckpointError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> model = EmbeddingClassifier(class_names=["hat", "shoe"], modalities={"photo": 3})
        >>> model.configure_model()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_classifier(model, f"{folder}/model.ckpt")
        ...     EmbeddingClassifier.load_from_checkpoint(f"{folder}/model.ckpt").class_names
        ('hat', 'shoe')
    """
    if model.network is None:
        raise ConfigError("the classifier has no network yet: fit it, or load it from a checkpoint")
    checkpoint = {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": version("lightning"),
        "state_dict": model.state_dict(),
        model.CHECKPOINT_HYPER_PARAMS_KEY: {**model.hparams, **_data_of(model)},
    }
    model.on_save_checkpoint(checkpoint)
    AtomicCheckpointIO().save_checkpoint(checkpoint, path)


def _data_of(model: EmbeddingClassifier) -> dict[str, Any]:
    """What a classifier knows of its data, in plain values."""
    return {
        "class_names": list(model.class_names),
        "modalities": dict(model.modalities),
        "scaling": dict(model.scale.kinds),
    }

"""Reading a checkpoint for what it says about itself, without building the model."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from estitchup_pl.errors import CheckpointError
from estitchup_pl.model.checkpoint_io import check_seal


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read the checkpoint of a classifier that has been fitted; its tensors stay mapped from the file.

    Args:
        path: File that a fit has written.

    Returns:
        Lightning's dictionary, with ``hyper_parameters`` (``class_names`` among them), ``state_dict`` and
        ``decision``, which :meth:`~estitchup_pl.model.decision.Decision.unpack` takes.

    Raises:
        CheckpointError: If the file does not exist, cannot be read, was damaged, or is a checkpoint of something
            else.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such checkpoint") from None
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: cannot be read as a checkpoint ({error})") from error
    if isinstance(checkpoint, dict) and "decision" in checkpoint and "class_names" in checkpoint["hyper_parameters"]:
        try:
            check_seal(checkpoint)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
        return checkpoint
    raise CheckpointError(f"{path}: a checkpoint, but not one of an EmbeddingClassifier that has been fitted")


def compare_checkpoint(
    checkpoint: Mapping[str, Any], class_names: Sequence[str], scaling: Mapping[str, str], weights: Mapping[str, Tensor]
) -> None:
    """Compare a checkpoint with the classifier that it is to be loaded into.

    Args:
        checkpoint: Lightning's dictionary.
        class_names: Classes of the classifier.
        scaling: Its scaling of each modality.
        weights: Its ``state_dict``, but for its decision.

    Raises:
        CheckpointError: If the checkpoint is one of something else, or was trained on other classes or with another
            scaling, or holds another network.
    """
    hparams, state = checkpoint.get("hyper_parameters", {}), checkpoint.get("state_dict", {})
    if "decision" not in checkpoint or "class_names" not in hparams:
        raise CheckpointError("not a checkpoint of EmbeddingClassifier: it has no class names")
    if list(hparams["class_names"]) != list(class_names):
        raise CheckpointError(
            f"the checkpoint was trained on {len(hparams['class_names'])} classes, this model has {len(class_names)}, "
            "and they differ: use the split of the checkpoint, or begin a new fit"
        )
    if hparams["scaling"] != scaling:
        raise CheckpointError(
            f"the checkpoint was trained with the scaling {hparams['scaling']}, this model has {dict(scaling)}: "
            "construct the model with the scaling of the checkpoint, or begin a new fit"
        )
    own = {name: tuple(value.shape) for name, value in weights.items()}
    for name in sorted(own.keys() | state.keys()):
        found = tuple(state[name].shape) if name in state else None
        if own.get(name) != found:
            raise CheckpointError(
                f"the checkpoint holds another network: {name} has the shape {found} there and {own.get(name)} here; "
                "build the model with the network it was trained with"
            )

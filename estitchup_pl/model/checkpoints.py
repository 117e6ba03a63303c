"""Reading a checkpoint for what it says about itself, without building the model."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from estitchup_pl.errors import CheckpointError
from estitchup_pl.model.checkpoint_io import check_seal


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read the checkpoint of a classifier that has been fitted; its tensors stay mapped from the file.

    Args:
        path: File that a fit has written.

    Returns:
        Lightning's dictionary, with ``hyper_parameters`` (``class_names`` among them) and ``state_dict``
        (``threshold`` among them).

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
    if isinstance(checkpoint, dict):
        hparams, state = checkpoint.get("hyper_parameters", {}), checkpoint.get("state_dict", {})
        if "class_names" in hparams and "threshold" in state:
            try:
                check_seal(checkpoint)
            except CheckpointError as error:
                raise CheckpointError(f"{path}: {error}") from None
            return checkpoint
    raise CheckpointError(f"{path}: a checkpoint, but not one of an EmbeddingClassifier that has been fitted")

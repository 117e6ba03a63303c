"""Reading a checkpoint for what it says about itself, without building the model."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor

from estitchup_pl.errors import CheckpointError, did_you_mean
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
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        with ZipFile(path) as archive:  # what is mapped is not compared with its checksums
            damaged = archive.testzip()
        if damaged:
            raise BadZipFile(f"{damaged} does not match its checksum")
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such checkpoint") from None
    except Exception as error:  # a damaged file fails with whatever its bytes lead to
        raise CheckpointError(f"{path}: cannot be read as a checkpoint ({_reason(error)})") from error
    if not _is_ours(checkpoint):
        raise CheckpointError(f"{path}: a checkpoint, but not one of an EmbeddingClassifier that has been fitted")
    try:
        check_seal(checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return checkpoint


def _reason(error: Exception) -> str:
    """What is wrong, without PyTorch's advice to load such a file all the same, which would run what it holds."""
    if isinstance(error, pickle.UnpicklingError):
        return "it is damaged, or holds more than numbers, texts and tensors, which is not loaded: it could run code"
    return str(error).partition("\n")[0] or type(error).__name__


def _is_ours(checkpoint: object) -> bool:
    if not isinstance(checkpoint, dict):
        return False
    hparams, state = checkpoint.get("hyper_parameters"), checkpoint.get("state_dict")
    return (
        isinstance(hparams, dict) and isinstance(state, dict) and "class_names" in hparams and "decision" in checkpoint
    )


def check_names(hparams: Mapping[str, Any], kind: type) -> None:
    """Raise :class:`CheckpointError` for a hyperparameter that a class does not take."""
    accepted = signature(kind).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values()):
        return
    for name in hparams:
        if name not in accepted and not name.startswith("_"):  # Lightning's own
            raise CheckpointError(
                f"the checkpoint holds the hyperparameter {name!r}, which {kind.__name__} does not have"
                f"{did_you_mean(name, accepted)}: it comes from another version or class; name that class in the call, "
                "or fit anew"
            )


def foreign_hyperparameters(error: Exception) -> str:
    """Say that a checkpoint's hyperparameters are not those of the classes here, with the parser's first reason."""
    reasons = [line.strip(" -") for line in str(error).splitlines() if "not accepted" in line or "Expected" in line]
    return (
        f"its hyperparameters do not fit the classes of this version ({(reasons or [str(error)])[0]}): it comes from "
        "another version or class; name that class in the call, or fit anew"
    )


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

"""Checkpoints on disk: there whole or not at all, and unchanged since they were written."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH
from torch import Tensor
from typing_extensions import override

from estitchup_pl.errors import CheckpointError, WriteError
from estitchup_pl.store.files import atomic_path

SEAL: Final = "estitchup_seal"
"""Key of a checkpoint under which the digests of its parts stand."""

SEALED: Final = (
    "epoch",
    "global_step",
    "state_dict",
    "hyper_parameters",
    "optimizer_states",
    "lr_schedulers",
    "callbacks",
    "trained_on",
    "decision",
)
"""Parts of a checkpoint that its seal covers: all that decisions and a resumed fit depend on."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its target, flushes it to disk and renames it.

    Lightning's own way goes through the system's temporary folder: where that lies on another file system, a kill or
    a full disk leaves the only checkpoint half-written. Addresses such as ``s3://…`` are left to Lightning.
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any = None) -> None:
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        try:
            with atomic_path(Path(path)) as temporary:
                torch.save(checkpoint, temporary)
        except (WriteError, OSError, RuntimeError) as error:  # torch wraps what the file system says
            raise CheckpointError(
                f"{path}: the checkpoint cannot be written ({error}); what was there before is unchanged. Free some "
                "space or choose another folder, then resume with --ckpt_path"
            ) from error


def seal(checkpoint: dict[str, Any]) -> None:
    """Write digests of a checkpoint's parts into it, so that :func:`check_seal` notices any later change."""
    checkpoint[SEAL] = {name: _digest(checkpoint.get(name), name) for name in SEALED}


def check_seal(checkpoint: Mapping[str, Any], parts: Collection[str] = SEALED) -> None:
    """Compare parts of a checkpoint with its seal; one without a seal passes.

    Raises:
        CheckpointError: If one differs: the file was damaged, or edited, after it had been written.
    """
    for name in parts if SEAL in checkpoint else ():
        if checkpoint[SEAL].get(name) != _digest(checkpoint.get(name), name):
            raise CheckpointError(
                f"{name} of the checkpoint does not match its own digest: the file was damaged or edited after it was "
                "written. Copy it again from where it came, or fit anew"
            )


def _digest(part: Any, name: str) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    for piece in _bytes_of(part, name):
        hasher.update(piece)
    return hasher.hexdigest()


def _bytes_of(value: Any, path: str) -> Iterator[bytes]:
    """Bytes that tell apart any two values of plain containers, numbers, strings and tensors."""
    if isinstance(value, Mapping):
        yield f"{path}:{len(value)}".encode()
        for key, item in value.items():
            yield from _bytes_of(item, f"{path}.{type(key).__name__}:{key}")
    elif isinstance(value, list | tuple):
        yield f"{path}:{len(value)}".encode()
        for position, item in enumerate(value):
            yield from _bytes_of(item, f"{path}.{position}")
    elif isinstance(value, Tensor):
        yield f"{path}:{value.dtype}:{tuple(value.shape)}".encode()
        yield value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    else:
        yield f"{path}:{type(value).__name__}:{value!r}".encode()

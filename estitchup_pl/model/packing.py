"""Calibrators and none scores as plain values and tensors, as a checkpoint holds them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from estitchup_pl.errors import CheckpointError, ConfigError

Part = TypeVar("Part", bound=nn.Module)


def pack(module: nn.Module) -> dict[str, Any]:
    """Describe a module by its class, the arguments it was made with, and its state.

    Args:
        module: Keeps each argument of its constructor under the argument's name; arguments are plain values or
            modules of this kind, or lists of them.

    Returns:
        ``class_path``, ``init_args`` and ``state``, the last a dictionary of tensors.

    Raises:
        ConfigError: If an argument is no plain value, or is not kept under its name.
    """
    return {**_describe(module), "state": {name: value.detach().cpu() for name, value in module.state_dict().items()}}


def unpack(packed: Mapping[str, Any], kinds: Iterable[type[Part]]) -> Part:
    """Make the module that :func:`pack` has described.

    Args:
        packed: What :func:`pack` has returned.
        kinds: Classes that it may be of, or of a subclass of theirs; nothing is imported on a checkpoint's word.

    Raises:
        CheckpointError: If there is no such class, or it cannot be made so, or its state is not finite.
    """
    module = _build(packed, list(_with_subclasses(kinds)))
    for path, value in packed["state"].items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise CheckpointError(f"{path} of {packed['class_path']} in the checkpoint is not finite: fit it anew")
        place, _, name = path.rpartition(".")
        try:
            module.get_submodule(place).register_buffer(name, value.clone())
        except (AttributeError, KeyError) as error:
            raise CheckpointError(f"{packed['class_path']} in the checkpoint is of another version: {error}") from error
    if missing := sorted(module.state_dict().keys() - packed["state"].keys()):
        raise CheckpointError(f"{packed['class_path']} in the checkpoint is of another version: it lacks {missing[0]}")
    return module


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Raise :class:`CheckpointError` if a weight is infinite or not a number, which decides nothing."""
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            count = int((~torch.isfinite(value)).sum())
            raise CheckpointError(
                f"{name}: {count:,} of {value.numel():,} weights are not finite, so the fit has diverged: "
                "fit anew with a lower learning rate (model.lr_scheduler.max_lr), or take an earlier checkpoint"
            )


def class_path(kind: type) -> str:
    """Name of a class with its module, as YAML and checkpoints give it."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _describe(module: nn.Module) -> dict[str, Any]:
    arguments = {}
    for name in inspect.signature(type(module)).parameters if _has_arguments(type(module)) else ():
        try:
            arguments[name] = _plain(getattr(module, name))
        except (AttributeError, TypeError) as error:
            raise ConfigError(
                f"{class_path(type(module))} cannot be kept in a checkpoint: its argument {name!r} has to be kept as "
                f"self.{name}, and to be a plain value or a part of the same kind ({error})"
            ) from error
    return {"class_path": class_path(type(module)), "init_args": arguments}


def _has_arguments(kind: type[nn.Module]) -> bool:
    return kind.__init__ is not nn.Module.__init__  # which takes anything and keeps nothing


def _plain(value: object) -> Any:
    if isinstance(value, list | tuple | nn.ModuleList):
        return [_plain(item) for item in value]
    if isinstance(value, nn.Module):
        return _describe(value)
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"{value!r} is no plain value")


def _build(description: Mapping[str, Any], kinds: Sequence[type[Part]]) -> Part:
    path = description["class_path"]
    found = [kind for kind in kinds if class_path(kind) == path]
    if not found:
        raise CheckpointError(
            f"the checkpoint names {path}, which is no calibrator or score that has been imported; nothing is imported "
            "on a checkpoint's word: import its module first, or name the class in the command's own configuration"
        )
    arguments = {
        name: [_built(item, kinds) for item in value] if isinstance(value, list) else _built(value, kinds)
        for name, value in description["init_args"].items()
    }
    try:
        return found[-1](**arguments)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint's {path} cannot be made ({error}): fit it anew") from error


def _built(value: Any, kinds: Sequence[type[nn.Module]]) -> Any:
    return _build(value, kinds) if isinstance(value, Mapping) else value


def _with_subclasses(kinds: Iterable[type[Part]]) -> Iterator[type[Part]]:
    for kind in kinds:
        yield kind
        yield from _with_subclasses(kind.__subclasses__())

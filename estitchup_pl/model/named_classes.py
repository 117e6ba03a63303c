"""Classes that a checkpoint names: of this package, or imported already by whoever loads it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any, Final

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from typing_extensions import override

from estitchup_pl.errors import CheckpointError

OWN_PACKAGE: Final = __name__.partition(".")[0]
KINDS: Final = (nn.Module, Optimizer, LRScheduler)
"""What a checkpoint may name: networks, losses, metrics and whole models, optimizers and schedules."""

_PARTS: Final = ("network", "optimizer", "lr_scheduler", "loss", "metrics", "more_metrics")
"""Hyperparameters whose value may also be the name of a class alone."""


def named_class(path: str) -> type:
    """The class that a checkpoint names, without importing anything that is not of this package.

    Args:
        path: Its module and name, such as ``torch.optim.AdamW``.

    Raises:
        CheckpointError: If it is neither of this package nor imported already, or no network, optimizer or schedule.

    Example:
        >>> named_class("torch.nn.Linear")
        <class 'torch.nn.modules.linear.Linear'>
    """
    place, _, name = path.rpartition(".")
    if place.partition(".")[0] == OWN_PACKAGE:
        kind = _own_class(place, name)
    elif place in sys.modules:
        kind = vars(sys.modules[place]).get(name)
    else:
        raise CheckpointError(
            f"the checkpoint names the class {path}, and nothing is imported on a checkpoint's word: name it in the "
            "call as the fit did, with its --config or option, or import its module before you load the checkpoint"
        )
    if not isinstance(kind, type) or not issubclass(kind, KINDS):
        raise CheckpointError(
            f"the checkpoint names {path}, which is no class of a network, loss, metric, optimizer or schedule"
        )
    return kind


@contextmanager
def only_known_classes(hparams: Mapping[str, Any]) -> Iterator[None]:
    """Check the classes that hyperparameters name, and let nothing else that they name be imported within.

    Raises:
        CheckpointError: As :func:`named_class` does.
    """
    for path in _class_paths(hparams):
        named_class(path)
    guard = _Guard(hparams)
    sys.meta_path.insert(0, guard)
    try:
        yield
    finally:
        sys.meta_path.remove(guard)


def _own_class(place: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(place), name)  # some are imported when they are asked for
    except (ImportError, AttributeError):
        raise CheckpointError(f"the checkpoint names {place}.{name}, which this version does not have") from None


class _Guard(MetaPathFinder):
    """Refuses to find modules that stand among some values: an option of any type may hold a class's name."""

    def __init__(self, values: Any) -> None:
        self._named = set(_prefixes(values))

    @override
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname in self._named and fullname.partition(".")[0] != OWN_PACKAGE:
            raise ImportError(f"{fullname} is named by a checkpoint alone, on whose word nothing is imported")
        return None


def _class_paths(hparams: Mapping[str, Any]) -> Iterator[str]:
    if "_class_path" in hparams:
        yield str(hparams["_class_path"])
    for name in _PARTS:
        part = hparams.get(name)
        alone = part.values() if name.endswith("metrics") and isinstance(part, Mapping) else [part]
        yield from (value for value in alone if isinstance(value, str) and "." in value)
    yield from _described(hparams)


def _described(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from [str(value["class_path"])] if "class_path" in value else []
    for inner in _inner(value):
        yield from _described(inner)


def _prefixes(value: Any) -> Iterator[str]:
    """Every module that a text among the values could name: ``a`` and ``a.b`` of ``a.b.C``."""
    if isinstance(value, str):
        parts = value.split(".")
        yield from (".".join(parts[:stop]) for stop in range(1, len(parts)))
    for inner in _inner(value):
        yield from _prefixes(inner)


def _inner(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []

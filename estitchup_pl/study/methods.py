"""From a method's description to callbacks and estimators, made afresh for every fit."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import lightning.pytorch as pl

from estitchup_pl import callbacks as own_callbacks
from estitchup_pl.errors import ConfigError, did_you_mean
from estitchup_pl.study.config import MethodConfig, StudyConfig

Values = dict[str, float]
"""One value for each name of a grid."""


def candidates(method: MethodConfig) -> list[Values]:
    """List every combination of the grid; one empty combination where there is no grid.

    Example:
        >>> candidates(MethodConfig(grid={"alpha": [0.2, 0.4], "softness": [0.1]}))
        [{'alpha': 0.2, 'softness': 0.1}, {'alpha': 0.4, 'softness': 0.1}]
    """
    return [dict(zip(method.grid, values, strict=True)) for values in product(*method.grid.values())]


def build_callbacks(name: str, method: MethodConfig, values: Mapping[str, float]) -> list[pl.Callback]:
    """Make the callbacks of a method, the values of a grid in place of the arguments of the same names.

    Raises:
        ConfigError: If a class or an argument does not exist; the nearest that does is offered.
    """
    built = []
    for number, spec in enumerate(method.callbacks):
        where = f"methods.{name}.callbacks[{number}]"
        built.append(_instantiate(find_class(spec, where), spec, values, where))
        if not isinstance(built[-1], pl.Callback):
            raise ConfigError(f"{where}: {spec['class_path']} is no Lightning callback")
    return built


def build_estimator(name: str, method: MethodConfig, values: Mapping[str, float]) -> Any:
    """Make the estimator of a method, likewise."""
    where = f"methods.{name}.estimator"
    spec = method.estimator or {}
    return _instantiate(find_class(spec, where), spec, values, where)


def check_methods(config: StudyConfig) -> None:
    """Make everything once, so that a mistake is told before hours are spent.

    Raises:
        ConfigError: For a class, an argument or a name of a grid that does not exist.
    """
    for name, method in config.methods.items():
        accepted = set(_arguments_of(name, method))
        for argument in method.grid:
            if argument not in accepted:
                raise ConfigError(
                    f"methods.{name}.grid: nothing in this method takes {argument!r}"
                    f"{did_you_mean(argument, accepted)}; it takes: {', '.join(sorted(accepted)) or 'nothing'}"
                )
        for values in candidates(method):
            _check_order(name, build_callbacks(name, method, values))
            if method.estimator is not None:
                build_estimator(name, method, values)


def find_class(spec: Mapping[str, Any], where: str) -> type:
    """Import the class that ``class_path`` names.

    Raises:
        ConfigError: If there is none.
    """
    unknown = set(spec) - {"class_path", "init_args"}
    path = spec.get("class_path")
    if not isinstance(path, str) or unknown:
        raise ConfigError(f"{where}: expected class_path and init_args, got {sorted(spec)}")
    place, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(place) if place else own_callbacks
    except ImportError as error:
        raise ConfigError(f"{where}: cannot import {place!r}, where {name!r} should be ({error})") from error
    found = getattr(module, name, None)
    if not isinstance(found, type):
        raise ConfigError(f"{where}: there is no class {name!r} in {module.__name__}{did_you_mean(name, dir(module))}")
    return found


def _arguments_of(name: str, method: MethodConfig) -> Iterator[str]:
    for number, spec in enumerate(method.callbacks):
        yield from _parameters(find_class(spec, f"methods.{name}.callbacks[{number}]"))
    if method.estimator is not None:
        yield from _parameters(find_class(method.estimator, f"methods.{name}.estimator"))


def _instantiate(cls: type, spec: Mapping[str, Any], values: Mapping[str, float], where: str) -> Any:
    accepted = _parameters(cls)
    arguments = dict(spec.get("init_args") or {})
    for argument in arguments:
        if argument not in accepted:
            raise ConfigError(
                f"{where}: {cls.__name__} takes no {argument!r}{did_you_mean(argument, accepted)}; it accepts: "
                f"{', '.join(accepted)}"
            )
    arguments.update({argument: value for argument, value in values.items() if argument in accepted})
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:  # what a class says to its arguments
        raise ConfigError(f"{where}: {error}") from error


def _parameters(cls: type) -> list[str]:
    return [name for name in inspect.signature(cls).parameters if name not in ("args", "kwargs")]


def _check_order(name: str, built: Sequence[pl.Callback]) -> None:
    softened = False
    for callback in built:
        if softened and isinstance(callback, own_callbacks.EmbeddingAugmentation):
            raise ConfigError(
                f"methods.{name}: LabelSoftening comes before {type(callback).__name__}, but softening applies to the "
                "mixed targets (Sec. 2.4): change their order"
            )
        softened = softened or isinstance(callback, own_callbacks.LabelSoftening)

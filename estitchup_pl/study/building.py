"""From plain descriptions (``class_path``, ``init_args``), as YAML has them, to objects; jsonargparse does the work.

A study is data: what its file says is kept in its folder, compared when the study is resumed, and handed to workers.
Objects are made from it where they are needed, and all of them once before the first fit.
"""

from __future__ import annotations

import json
import re
from collections import UserDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache
from inspect import signature
from typing import Any, Final, get_args

from jsonargparse import ArgumentError, ArgumentParser, Namespace
from jsonargparse.typing import register_type
from torch import optim

from estitchup_pl import callbacks, model
from estitchup_pl.errors import ConfigError, did_you_mean

Description = dict[str, Any]
"""``class_path`` and ``init_args`` of an object, in plain values."""

Values = dict[str, Any]
"""One value for each name of a grid."""


class Plain(UserDict[str, Any]):
    """A mapping of plain values that jsonargparse hands on as it is; elsewhere it completes what looks like a class."""

    @classmethod
    def of(cls, given: str | Mapping[str, Any]) -> Plain:
        """Take a mapping, or the name of a class alone."""
        if not isinstance(given, str | Mapping):
            raise ValueError(f"expected the name of a class, or a mapping, got {given!r}")
        return cls({"class_path": given} if isinstance(given, str) else given)


register_type(Plain, serializer=dict, deserializer=Plain.of)

_UNKNOWN_CLASS: Final = re.compile(r"Expected a dot import path string: (\w+)")
_UNKNOWN_OPTION: Final = re.compile(r"Option '([\w.]+)' is not accepted")


def spelled_out(given: str | Mapping[str, Any], default: str) -> Description:
    """Write a description with its class, whichever short form it was given in.

    Args:
        given: The name of a class, a description, or arguments alone.
        default: ``class_path`` of arguments alone.

    Example:
        >>> spelled_out({"alpha": 0.2}, "EMixup")
        {'class_path': 'EMixup', 'init_args': {'alpha': 0.2}}
        >>> spelled_out("EStitchup", "EMixup")
        {'class_path': 'EStitchup', 'init_args': {}}
    """
    if isinstance(given, str):
        return {"class_path": given, "init_args": {}}
    if "class_path" in given:
        return {"init_args": {}, **deepcopy(dict(given))}
    return {"class_path": default, "init_args": deepcopy(dict(given))}


def describe(kind: Any, given: Mapping[str, Any], where: str) -> Description:
    """Check a description, and complete it by what its classes have as defaults.

    Args:
        kind: Type of what it describes: a class, or a ``Callable`` that returns one.
        given: The description.
        where: Its option, for messages.

    Raises:
        ConfigError: If a class or an argument does not exist or does not fit; the nearest that does is offered.
    """
    try:
        parsed = _parsed(kind, json.dumps(given, default=dict))[1]
    except ArgumentError as error:
        raise ConfigError(f"{where}: {_shortened(str(error))}{_hint(str(error), kind, given)}") from error
    described: Description = json.loads(json.dumps(parsed.as_dict()["it"], default=dict))
    return described


def build(kind: Any, description: Mapping[str, Any], where: str) -> Any:
    """Make an object from its description.

    Raises:
        ConfigError: If a class refuses its arguments.
    """
    with told(where):
        parser, parsed = _parsed(kind, json.dumps(description, default=dict))
        return parser.instantiate(parsed)["it"]


@lru_cache(maxsize=256)
def _parsed(kind: Any, description: str) -> tuple[ArgumentParser, Namespace]:
    """Parse a description; kept, since that of a classifier takes as long as an epoch on small data."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--it", type=kind)
    return parser, parser.parse_object({"it": json.loads(description)})


@contextmanager
def told(where: str) -> Iterator[None]:
    """Let what a class says to its arguments become a :class:`ConfigError` that names their option."""
    try:
        yield
    except (ArgumentError, TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {_shortened(str(error))}") from error


def replaced(description: Mapping[str, Any], values: Mapping[str, Any], where: str) -> Description:
    """Put values in the place of arguments, wherever in a description an argument of the name stands.

    Args:
        description: Complete description, see :func:`describe`.
        values: Value by name; a longer name, such as ``loss.gamma``, says whose argument is meant.
        where: Option of the values, for messages.

    Raises:
        ConfigError: If no argument has such a name.

    Example:
        >>> mixup = {"class_path": "EMixup", "init_args": {"alpha": 0.4}}
        >>> replaced({"class_path": "X", "init_args": {"callbacks": [mixup]}}, {"alpha": 0.8}, "grid")
        {'class_path': 'X', 'init_args': {'callbacks': [{'class_path': 'EMixup', 'init_args': {'alpha': 0.8}}]}}
    """
    changed = deepcopy(dict(description))
    for name, value in values.items():
        path = tuple(name.split("."))
        places = [place for found, place in _arguments(changed) if found[-len(path) :] == path]
        if not places:
            known = {found[-1] for found, _ in _arguments(changed)} | {".".join(p) for p, _ in _arguments(changed)}
            raise ConfigError(
                f"{where}: nothing in this method takes {name!r}{did_you_mean(name, known)}; it takes: "
                f"{', '.join(sorted('.'.join(found) for found, _ in _arguments(changed)))}"
            )
        for place in places:
            place[path[-1]] = deepcopy(value)
    return changed


def _arguments(description: Description, within: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Values]]:
    """Find each argument of a description and of all within it: its name, and the arguments that it is one of."""
    arguments = description.get("init_args", {})
    for name, value in arguments.items():
        if name == "grid":
            continue
        yield (*within, name), arguments
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict) and "class_path" in inner:
                yield from _arguments(inner, (*within, name))


def _shortened(message: str) -> str:
    """Say in one line what jsonargparse says in several, without its types."""
    lines = [line.strip() for line in message.removeprefix('Parser key "it":').strip().splitlines()]
    text = re.sub(r"Type [\w.\[\], ]+ expects a function or a callable class: ", "", " ".join(lines))
    return re.sub(r"\.? Got value: (Namespace|\{).*", "", text)


def _hint(message: str, kind: Any, given: Mapping[str, Any]) -> str:
    """Offer the nearest name to one that jsonargparse does not know."""
    short_names = {cls.__name__: cls for cls in _subclasses(get_args(kind)[-1] if get_args(kind) else kind)}
    short_names |= {name: cls for place in (callbacks, model, optim) for name, cls in vars(place).items()}
    if found := _UNKNOWN_CLASS.search(message):
        return did_you_mean(found[1], short_names)
    if found := _UNKNOWN_OPTION.search(message):
        classes = [short_names.get(path.rpartition(".")[2]) for path in _class_paths(given)]
        return did_you_mean(found[1], {name for cls in classes if cls for name in signature(cls).parameters})
    return ""


def _subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    yield cls
    for subclass in cls.__subclasses__():
        yield from _subclasses(subclass)


def _class_paths(given: Any) -> Iterator[str]:
    if isinstance(given, Mapping):
        yield from [given["class_path"]] if "class_path" in given else []
    for inner in given.values() if isinstance(given, Mapping) else given if isinstance(given, list) else ():
        yield from _class_paths(inner)

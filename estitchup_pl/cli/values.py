"""One value of a call against its type hint: a class by its name, one of a few words, or anything else."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from typing import Any

from yaml import Node, ScalarNode

from estitchup_pl.cli import given
from estitchup_pl.cli.hints import accepts, bases, choices, in_words, subclasses
from estitchup_pl.errors import ConfigError, did_you_mean


def check_value(where: str, hint: Any, key: str, node: Node) -> None:
    """Raise :class:`ConfigError` for a value that the hint does not accept, with what would be right."""
    if accepts(hint, given.plain(node)):
        return
    if isinstance(node, ScalarNode):
        check_choice(where, node.value, choices(hint))
    advice = ""
    if accepts(hint, given.as_text(node)):  # numbers, no, on and the like, where names are wanted
        text = json.dumps(given.as_text(node), ensure_ascii=False)
        call = f"{where} '{text}'" if where.startswith("-") else f"{key}: {text}"
        advice = f"; names are text, so quote them: {call}"
    raise ConfigError(f"{where}: expected {in_words(hint)}, got {given.shown(node)}{advice}")


def check_choice(where: str, word: str, allowed: Sequence[str]) -> None:
    """Raise :class:`ConfigError` for a word that is none of those allowed, if only some are."""
    if allowed and word not in allowed:
        raise ConfigError(f"{where}: expected one of {', '.join(allowed)}, got {word!r}{did_you_mean(word, allowed)}")


def find_class(hint: Any, node: Node) -> Any:
    """The class or function that a scalar names, or ``None`` where it names none."""
    try:
        return named_class("", hint, node)
    except ConfigError:
        return None


def named_class(where: str, hint: Any, node: Node) -> Any:
    """The class or function that a scalar names, by its path or its name alone.

    Raises:
        ConfigError: If there is none, with the nearest name.
    """
    name = node.value if isinstance(node, ScalarNode) else ""
    place, _, last = name.rpartition(".")
    if place and all(part.isidentifier() for part in name.split(".")):
        return _imported(where, place, last)
    known = {kind.__name__: kind for kind in subclasses(bases(hint))}
    if name not in known:
        raise ConfigError(f"{where}: there is no class {name!r}{did_you_mean(name, known)}")
    return known[name]


def _imported(where: str, place: str, name: str) -> Any:
    try:
        module = importlib.import_module(place)
    except Exception as error:  # whatever a user's module raises
        raise ConfigError(f"{where}: {place} cannot be imported ({type(error).__name__}: {error})") from error
    try:
        return getattr(module, name)
    except AttributeError:
        public = [known for known in dir(module) if not known.startswith("_")]
        raise ConfigError(f"{where}: there is no class {name!r} in {place}{did_you_mean(name, public)}") from None

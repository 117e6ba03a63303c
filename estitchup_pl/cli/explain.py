"""What is wrong with a call: the words and files that a user gave, held against the type hints of the options.

The parser's own message about a wrong value lists every member of every union that it tried. Here the call is
walked a second time, in its order, and the first thing that does not fit is said in one sentence.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from jsonargparse._actions import ActionConfigFile
from jsonargparse._typehints import ActionTypeHint
from yaml import MappingNode, Node, SequenceNode

from estitchup_pl.cli import given, values
from estitchup_pl.cli.hints import (
    Parameter,
    accepts,
    bases,
    item_hint,
    parameters,
    subclasses,
    value_hint,
)
from estitchup_pl.errors import ConfigError, did_you_mean

_Place = tuple[str, ...]
"""Keys that lead to a value, without ``init_args``; items of lists by their number."""


def explain(parser: argparse.ArgumentParser, words: Sequence[str]) -> str | None:
    """Say in a sentence what a call that the parser refuses does wrong, or nothing where it seems right."""
    try:
        walk = _Walk(parser)
        walk.words(words)
        walk.missing()
    except ConfigError as fault:
        return str(fault)
    return None


class _Walk:
    """A walk over a call that remembers, for the options to come, which class was named where."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.actions = {name: action for action in parser._actions for name in action.option_strings}
        self.positionals = [action for action in parser._actions if not action.option_strings]
        self.hints = {_place(a.dest): a._typehint for a in parser._actions if isinstance(a, ActionTypeHint)}
        self.required = [_place(a.dest) for a in parser._actions if a.required and a.option_strings]
        self.kinds: dict[_Place, Any] = {}
        self.built: set[_Place] = set()  # classes whose arguments are all given here, none by whoever calls them
        self.given: set[_Place] = set()
        self.lengths: dict[_Place, int] = {}
        for place, hint in self.hints.items():
            default = parser.get_default(".".join(place))
            if bases(hint) and isinstance(default, Mapping | Namespace):
                text = yaml.safe_dump(dict(default) if isinstance(default, Mapping) else default.as_dict())
                self.inside("default", hint, place, [], given.word(text))

    def words(self, words: Sequence[str]) -> None:
        loose = list(itertools.takewhile(lambda word: not word.startswith("--"), words))
        for name, written in given.options(words):
            action = self.actions.get(name, self.actions.get(name.removesuffix("+")))
            if isinstance(action, ActionConfigFile):
                self.file(Path(*written))
            elif action is None or isinstance(action, ActionTypeHint):
                keys = name.lstrip("-").removesuffix("+").split(".")
                if not name.endswith("+"):
                    self.lengths.pop(tuple(keys), None)
                if len(written) != 1 and any(place == tuple(keys[: len(place)]) for place in self.hints):
                    raise ConfigError(f"{name}: expected one value, got {' '.join(written) or 'none'}")
                if keys[-1] != "help":
                    self.option(name, keys, given.word(" ".join(written)))
            elif action.choices:
                for word in written:
                    values.check_choice(name, word, [str(choice) for choice in action.choices])
            if action is not None:
                self.given.add(_place(action.dest))
                loose += written if action.nargs == 0 else []
        if len(loose) < len(self.positionals):
            action = self.positionals[len(loose)]
            raise ConfigError(f"{action.metavar} is missing: {action.help}")

    def file(self, path: Path) -> None:
        for key, node in given.entries(given.config_file(path)):
            self.option(f"{path}, line {key.line}", key.split("."), node)

    def option(self, where: str, keys: Sequence[str], node: Node) -> None:
        """An option by its keys, or a group of options by the first of them."""
        for stop in range(len(keys), 0, -1):
            if tuple(keys[:stop]) in self.hints:
                return self.inside(where, self.hints[tuple(keys[:stop])], tuple(keys[:stop]), keys[stop:], node)
        siblings = {place[len(keys) - 1] for place in self.hints if place[: len(keys) - 1] == tuple(keys[:-1])}
        if keys[-1] in siblings and isinstance(node, MappingNode):
            for key, part in given.entries(node):
                self.option(given.at_line(where, key.line), [*keys, *key.split(".")], part)
        elif not where.startswith("-"):
            raise ConfigError(f"{where}: there is no option {'.'.join(keys)!r}{did_you_mean(keys[-1], siblings)}")
        elif where not in self.actions:
            raise ConfigError(f"there is no option {where}{did_you_mean(where, self.names(where))}")
        return None

    def names(self, wanted: str) -> list[str]:
        """Options with the same last part, or else all: those of the parser, and of the classes named so far."""
        nested = [_option((*place, name)) for place, kind in self.kinds.items() for name in parameters(kind)]
        names = [*self.actions, *nested]
        return [name for name in names if name.endswith("." + wanted.lstrip("-"))] or names

    def inside(self, where: str, hint: Any, place: _Place, keys: Sequence[str], node: Node) -> None:
        """The value of an option, or of what the keys lead to within it."""
        self.given.add(place)
        if not keys:
            return self.value(where, hint, place, node)
        key, rest = keys[0], keys[1:]
        if place not in self.kinds and (item := item_hint(hint)) is not None and bases(item):  # the last item so far
            return self.inside(where, item, (*place, str(self.lengths.get(place, 1) - 1)), keys, node)
        if key in ("init_args", "dict_kwargs"):
            return self.inside(where, hint, place, rest, node)
        if key == "class_path":
            return self.bind(place, hint, values.named_class(where, hint, node))
        if (value := value_hint(hint)) is not None:
            return self.inside(where, value, (*place, key), rest, node)
        if (argument := self.argument(where, hint, place, key)) is not None:
            return self.inside(where, argument.hint, (*place, key), rest, node)
        return None

    def argument(self, where: str, hint: Any, place: _Place, name: str) -> Parameter | None:
        """An argument of the class at a place; nothing where the class is not known."""
        for only in filter(is_dataclass, bases(hint) if place not in self.kinds else ()):
            self.bind(place, hint, only)  # the one class that it can be, which nobody names
        kind = self.kinds.get(place)
        if kind is None or inspect.isabstract(kind):
            if bases(hint) and all(map(inspect.isabstract, bases(hint))):
                names = ", ".join(
                    sorted(kind.__name__ for kind in subclasses(bases(hint)) if not inspect.isabstract(kind))
                )
                raise ConfigError(f"{where}: name the class first, {_option(place)} CLASS (there are: {names})")
            return None
        known = parameters(kind)
        if name not in known:
            own = [name for name, argument in known.items() if place in self.built or not argument.required]
            raise ConfigError(
                f"{where}: {kind.__name__} has no argument {name!r}{did_you_mean(name, own)} "
                f"(its arguments: {', '.join(own) or 'none'})"
            )
        default = known[name].default
        if inspect.isclass(default) and bases(known[name].hint):
            self.kinds.setdefault((*place, name), default)
        return known[name]

    def value(self, where: str, hint: Any, place: _Place, node: Node) -> None:
        """A whole value: of a list each item, of a mapping each argument, of anything else itself."""
        item = item_hint(hint)
        if isinstance(node, SequenceNode) and item is not None and bases(item):
            for part in node.value:
                self.append(given.at_line(where, part.start_mark.line + 1), item, place, part)
        elif isinstance(node, MappingNode):
            self.mapping(where, hint, place, node)
        elif bases(hint) and (values.find_class(hint, node) or not accepts(hint, given.plain(node))):
            self.bind(place, hint, values.named_class(where, hint, node))
        elif item is not None and bases(item) and values.find_class(item, node):  # --callbacks+=EMixup
            self.append(where, item, place, node)
        else:
            values.check_value(where, hint, place[-1], node)

    def append(self, where: str, hint: Any, place: _Place, node: Node) -> None:
        self.kinds.pop(place, None)
        number = self.lengths.get(place, 0)
        self.lengths[place] = number + 1
        self.inside(where, hint, (*place, str(number)), [], node)

    def mapping(self, where: str, hint: Any, place: _Place, node: Node) -> None:
        entries = dict(given.entries(node))
        if "class_path" in entries:
            self.bind(place, hint, values.named_class(where, hint, entries.pop("class_path")))
        elif not bases(hint) and value_hint(hint) is None:
            return values.check_value(where, hint, place[-1], node)
        for key, part in entries.items():
            if key in ("init_args", "dict_kwargs"):
                self.mapping(where, hint, place, part)
            else:
                self.inside(given.at_line(where, key.line), hint, place, [key], part)
        return None

    def bind(self, place: _Place, hint: Any, kind: Any) -> None:
        """Remember the class at a place, where nothing of it has been given yet."""
        self.given = {other for other in self.given if other[: len(place)] != place}
        self.given.add(place)
        self.kinds[place] = kind
        if inspect.isclass(kind) and issubclass(kind, tuple(bases(hint, factories=False))):
            self.built.add(place)

    def missing(self) -> None:
        """Look for what has no default and was not given."""
        needed = [*self.required]
        for place in self.built:
            needed += [(*place, name) for name, argument in parameters(self.kinds[place]).items() if argument.required]
        for place in needed:
            if place not in self.given:
                raise ConfigError(f"the option {_option(place)} is missing")


def _place(dest: str) -> _Place:
    return tuple(dest.split("."))


def _option(place: _Place) -> str:
    return "--" + ".".join(key for key in place if not key.isdigit())

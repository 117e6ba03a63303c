"""What type hints say, for messages: the classes that fit one, its parts, its parameters, and its name in words."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from argparse import ArgumentError
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

from jsonargparse import ArgumentParser

WORDS: Final[dict[Any, str]] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path",
    type(None): "null",
}


class Parameter(NamedTuple):
    """An argument of a class, as its signature and annotations have it."""

    hint: Any
    default: Any

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is inspect.Parameter.empty


def parameters(call: Any) -> dict[str, Parameter]:
    """Arguments of a class or function by name; of a class that takes ``**kwargs``, those of its bases too."""
    found: dict[str, Parameter] = {}
    sources = (
        [vars(kind)["__init__"] for kind in call.__mro__ if "__init__" in vars(kind)] if _is_class(call) else [call]
    )
    for source in sources:
        signature = inspect.signature(source)
        try:
            hints = typing.get_type_hints(source, include_extras=True)
        except (NameError, TypeError):  # names that exist for type checkers only
            hints = {}
        factories = {field.name: field.default_factory for field in _fields(call)}
        kinds = {parameter.kind for parameter in signature.parameters.values()}
        for name, parameter in list(signature.parameters.items())[_is_class(call) :]:
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                default = factories.get(name, parameter.default)
                found.setdefault(name, Parameter(hints.get(name, Any), default))
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return found


def alternatives(hint: Any) -> list[Any]:
    """Members of a union, flat; a hint that is no union alone."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return alternatives(typing.get_args(hint)[0])
    if origin in (typing.Union, types.UnionType):
        return [kind for member in typing.get_args(hint) for kind in alternatives(member)]
    return [hint]


def item_hint(hint: Any) -> Any:
    """What the items of a list have to be, or ``None`` where the hint is no list."""
    for member in alternatives(hint):
        origin, arguments = typing.get_origin(member), typing.get_args(member)
        if _is_class(origin) and issubclass(origin, Iterable) and not issubclass(origin, Mapping) and arguments:
            return arguments[0]
    return None


def value_hint(hint: Any) -> Any:
    """What the values of a mapping have to be, or ``None`` where the hint is no mapping."""
    for member in alternatives(hint):
        origin, arguments = typing.get_origin(member), typing.get_args(member)
        if _is_class(origin) and issubclass(origin, Mapping) and len(arguments) == 2:
            return arguments[1]
    return None


def choices(hint: Any) -> list[str]:
    """Words that the hint's literals and enumerations allow."""
    found: list[str] = []
    for member in alternatives(hint):
        if typing.get_origin(member) is Literal:
            found += [str(word) for word in typing.get_args(member)]
        elif _is_class(member) and issubclass(member, Enum):
            found += list(member.__members__)
    return list(dict.fromkeys(found))


def bases(hint: Any, *, factories: bool = True) -> list[type]:
    """Classes whose subclasses can be named: the hint's own and, with factories, those its callables return."""
    found: list[type] = []
    for member in alternatives(hint):
        if typing.get_origin(member) is Callable:
            found += bases(typing.get_args(member)[-1]) if factories else []
        elif _is_class(member) and member not in WORDS and not issubclass(member, Enum | Mapping | tuple | timedelta):
            found.append(member)
    return found


def subclasses(kinds: Iterable[type]) -> Iterator[type]:
    """Classes and all their subclasses that have been imported, whose names are public."""
    for kind in kinds:
        if not kind.__name__.startswith("_"):
            yield kind
        yield from subclasses(type.__subclasses__(kind))


def accepts(hint: Any, value: Any) -> bool:
    """Whether the parser takes a value for a hint."""
    parser = ArgumentParser(exit_on_error=False)
    try:
        parser.add_argument("--value", type=hint)
        parser.parse_object({"value": value})
    except (ArgumentError, ValueError, TypeError):
        return False
    return True


def in_words(hint: Any) -> str:
    """What a hint expects, for people.

    Example:
        >>> in_words(int | list[str] | None)
        'a whole number, a list (text) or null'
    """
    said = list(dict.fromkeys(_word(member) for member in alternatives(hint)))
    return " or ".join(filter(None, [", ".join(said[:-1]), said[-1]]))


def _word(hint: Any) -> str:
    if hint in WORDS:
        return WORDS[hint]
    if words := choices(hint):
        return ", ".join(words)
    if (item := item_hint(hint)) is not None:
        return f"a list ({in_words(item)})"
    if (value := value_hint(hint)) is not None:
        return f"a mapping ({in_words(value)})"
    if kinds := bases(hint):
        return f"a class ({', '.join(kind.__name__ for kind in kinds)})"
    return "another kind of value"


def _fields(call: Any) -> list[dataclasses.Field[Any]]:
    fields = dataclasses.fields(call) if dataclasses.is_dataclass(call) else ()
    return [field for field in fields if field.default_factory is not dataclasses.MISSING]


def _is_class(thing: Any) -> bool:
    return isinstance(thing, type)

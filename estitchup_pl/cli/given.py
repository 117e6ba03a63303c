"""A call as it was given: words into options, and YAML values with the text that they were written as."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from estitchup_pl.errors import ConfigError

TEXT: Final = "tag:yaml.org,2002:str"


def options(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Options of a command line with the words after each; words before the first option belong to none.

    Example:
        >>> list(options(["--a=1", "--b", "2", "3", "--c"]))
        [('--a', ['1']), ('--b', ['2', '3']), ('--c', [])]
    """
    starts = [place for place, word in enumerate(words) if word.startswith("--")]
    for start, stop in zip(starts, [*starts[1:], len(words)], strict=False):
        name, equals, value = words[start].partition("=")
        yield name, [*([value] if equals else []), *words[start + 1 : stop]]


def config_file(path: Path) -> Node | None:
    """Root of a YAML file; nothing for an empty one.

    Raises:
        ConfigError: If it cannot be read, is not YAML, or holds something else than options.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file in UTF-8") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: this is not YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: this is not YAML: {str(error).partition(chr(10))[0]}") from error
    if root is not None and not isinstance(root, MappingNode):
        raise ConfigError(f"{path}: expected options, such as `seed_everything: 0`, got {shown(root)}")
    return root


def word(text: str) -> Node:
    """Value of an option on a command line: a list or mapping in YAML, or else the text itself."""
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError:
        node = None
    return node if isinstance(node, MappingNode | SequenceNode) else ScalarNode(TEXT, text)


class Key(str):
    """A key of a mapping, without the plus of ``callbacks+``, that knows the line it stands in, from 1."""

    line: int = 1


def entries(node: Node | None) -> list[tuple[Key, Node]]:
    """Keys and values of a mapping; none of anything else."""
    pairs = []
    for key, value in node.value if isinstance(node, MappingNode) else ():
        pairs.append((Key(str(key.value).removesuffix("+")), value))
        pairs[-1][0].line = key.start_mark.line + 1
    return pairs


def plain(node: Node) -> Any:
    """Value that YAML makes of it."""
    return yaml.SafeLoader("").construct_object(node, deep=True)


def as_text(node: Node) -> Any:
    """Its value with every scalar as the text that it was written as."""
    if isinstance(node, MappingNode):
        return {str(key.value): as_text(value) for key, value in node.value}
    if isinstance(node, SequenceNode):
        return [as_text(item) for item in node.value]
    return str(node.value)


def shown(node: Node) -> str:
    """A value as it was written, on one line."""
    if isinstance(node, MappingNode):
        return "{" + ", ".join(f"{key.value}: {shown(value)}" for key, value in node.value) + "}"
    if isinstance(node, SequenceNode):
        return "[" + ", ".join(map(shown, node.value)) + "]"
    return json.dumps(node.value, ensure_ascii=False) if node.tag == TEXT else str(node.value)


def at_line(where: str, line: int) -> str:
    """The place of a part: its own line in a file, the option itself on a command line."""
    file, comma, _ = where.rpartition(", line ")
    return f"{file}{comma}{line}" if comma else where

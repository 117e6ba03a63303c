"""``estitchup embed``: a table of items through frozen encoders to a store of embeddings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from jsonargparse import ArgumentParser, Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from estitchup_pl.embed import Embedder, embed_items
from estitchup_pl.embed.run import TRAINER_DEFAULTS
from estitchup_pl.errors import ConfigError, EstitchupError, did_you_mean
from estitchup_pl.tables import ItemReader

_DESCRIPTION: Final = """\
Embed a table of items and write a store of embeddings. Killed at any point, the same command goes on where it
stopped; on a finished store it embeds new items only.
"""

_TRAINER_OPTIONS: Final = frozenset(
    {
        "accelerator",
        "strategy",
        "devices",
        "num_nodes",
        "precision",
        "callbacks",
        "plugins",
        "profiler",
        "deterministic",
        "benchmark",
        "inference_mode",
        "default_root_dir",
        *TRAINER_DEFAULTS,
    }
)
"""What of the Trainer concerns prediction; everything else is about fitting."""

_UNKNOWN_OPTION: Final = re.compile(r"(?:unrecognized arguments: --|[Oo]ption ')([\w.+-]+)")
_UNKNOWN_CLASS: Final = re.compile(r"(?:Expected a dot import path string: |has no attribute ')(\w+)")


def main(argv: list[str]) -> int:
    """Run ``estitchup embed`` with the words after it; return the exit status 0.

    Raises:
        ConfigError: For a wrong call, or a run that does not fit the store that is there.
        DataError: For items that cannot be read or embedded.
    """
    parser = embed_parser()
    options = _instantiate(parser, parser.parse_args(argv))
    summary = embed_items(**options)
    if summary is not None:
        print(summary)
    return 0


def _instantiate(parser: ArgumentParser, options: Namespace) -> dict[str, Any]:
    """Arguments of :func:`embed_items`."""
    try:
        arguments: dict[str, Any] = parser.instantiate(options).as_dict()
    except EstitchupError:
        raise
    except (ValueError, TypeError, MisconfigurationException) as error:  # what a class says to its arguments
        raise ConfigError(str(error)) from error
    del arguments["config"]
    return arguments


def embed_parser() -> ArgumentParser:
    """Parser of the command's options: those of :func:`embed_items`, and of the Trainer as far as it predicts."""
    parser = _Parser(prog="estitchup embed", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with options; may be given several times")
    parser.add_function_arguments(embed_items, as_group=False, skip={"trainer", "restart"})
    parser.add_argument("--restart", action="store_true", help="embed everything anew")
    fitting = set(inspect.signature(Trainer).parameters) - _TRAINER_OPTIONS
    parser.add_class_arguments(Trainer, "trainer", skip=fitting)
    parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})
    return parser


class _Parser(ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ConfigError(message + _hint(message, self)) from ex


def _hint(message: str, parser: ArgumentParser) -> str:
    """Nearest name for an option or class that the parser does not know."""
    if "did you mean" in message:  # a parser of a nested part has answered already
        return ""
    if found := _UNKNOWN_CLASS.search(message):
        return did_you_mean(found[1], [kind.__name__ for kind in (*_subclasses(Embedder), *_subclasses(ItemReader))])
    if found := _UNKNOWN_OPTION.search(message):
        options = {name.lstrip("-").removeprefix("trainer.") for name in parser._option_string_actions}
        return did_you_mean(found[1].removeprefix("trainer."), options)
    return ""


def _subclasses(base: type) -> Iterator[type]:
    kinds: list[type] = type.__subclasses__(base)
    for kind in kinds:
        yield kind
        yield from _subclasses(kind)

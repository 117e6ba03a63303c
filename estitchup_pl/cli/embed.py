"""``estitchup embed``: a table of items through frozen encoders to a store of embeddings."""

from __future__ import annotations

from typing import Any, Final

from estitchup_pl.cli.parser import CommandParser
from estitchup_pl.embed import embed_items

_DESCRIPTION: Final = """\
Embed a table of items and write a store of embeddings. Killed at any point, the same command goes on where it
stopped; on a finished store it embeds new items only.
"""

_OF_TRAINER: Final = ("accelerator", "devices", "num_nodes", "strategy", "precision")
"""Options that stand under ``trainer`` in the configurations of other commands, and may do so here."""


def main(argv: list[str]) -> int:
    """Run ``estitchup embed`` with the words after it; return the exit status 0.

    Raises:
        ConfigError: For a wrong call, or a run that does not fit the store that is there.
        DataError: For items that cannot be read or embedded.
    """
    parser = embed_parser()
    options = parser.build(parser.parse_call(argv))
    section = options.pop("trainer")
    options |= {name: value for name, value in section.items() if value is not None}
    summary = embed_items(**options)
    if summary is not None:
        print(summary)
    return 0


def embed_parser() -> CommandParser:
    """Parser of the command's options: those of :func:`embed_items`."""
    parser = CommandParser(prog="estitchup embed", description=_DESCRIPTION)
    parser.add_argument("--config", action="config", help="YAML file with options; may be given several times")
    parser.add_function_arguments(embed_items, as_group=False, skip={"restart", "same_as"})
    parser.add_argument("--restart", action="store_true", help="embed everything anew")
    for option in _OF_TRAINER:
        parser.add_argument(f"--trainer.{option}", type=Any, help=f"the same as --{option}, as other commands call it")
    return parser

"""The command ``estitchup``: finds the command named first and imports what that command needs, no more."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from estitchup_pl import __version__
from estitchup_pl.errors import ConfigError, EstitchupError, did_you_mean

COMMANDS: Final = {
    "fit": ("estitchup_pl.cli.lightning", "train a classifier on a store's embeddings"),
    "validate": ("estitchup_pl.cli.lightning", "evaluate a checkpoint on the validation rows"),
    "test": ("estitchup_pl.cli.lightning", "evaluate a checkpoint on the test rows"),
    "predict": ("estitchup_pl.cli.lightning", 'write class or "none" of each item to a parquet file'),
    "embed": ("estitchup_pl.cli.embed", "turn a table of items with texts and images into a store"),
    "study": ("estitchup_pl.cli.study", "compare methods over trials and write tables, figures and a report"),
    "report": ("estitchup_pl.cli.report", "draw the tables, figures and page of a study again"),
    "store": ("estitchup_pl.cli.store", "create, describe or verify a store of embeddings"),
}


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 1 for an error it explains, 2 for a wrong call."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if argv[0] == "--version":
        print(f"estitchup {__version__}")
        return 0
    warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)")  # Lightning 2.6 under torch >= 2.14
    # Users' own classes lie in the working directory or beside a config; a console script sees neither by itself.
    sys.path[:0] = [os.getcwd(), *(str(config.parent.absolute()) for config in config_files(argv))]
    try:
        if argv[0] not in COMMANDS:
            raise ConfigError(f"there is no command {argv[0]!r}{did_you_mean(argv[0], COMMANDS)}\n\n{_overview()}")
        module = importlib.import_module(COMMANDS[argv[0]][0])
        arguments = argv if module.__name__.endswith(".lightning") else argv[1:]
        return int(module.main(arguments))
    except EstitchupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except BrokenPipeError:  # whoever reads our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def config_files(argv: Iterable[str]) -> list[Path]:
    """Configuration files named on a command line."""
    paths = (Path(argument.split("=")[-1]) for argument in argv)
    return [path for path in paths if path.suffix in (".yaml", ".yml") and path.is_file()]


def _overview() -> str:
    commands = "\n".join(f"  {name:<10}{text}" for name, (_, text) in COMMANDS.items())
    return (
        "usage: estitchup COMMAND [OPTION ...]\n\n"
        'Calibrated classifiers on precomputed embeddings that say "none" for what they do not know.\n\n'
        f"commands:\n{commands}\n\n"
        "`estitchup COMMAND --help` lists the options of a command."
    )

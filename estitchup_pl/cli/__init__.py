"""The command ``estitchup``: finds the command named first and imports what that command needs, no more."""

from __future__ import annotations

import importlib
import os
import re
import sys
import time
import traceback
import warnings
from typing import Final

from estitchup_pl import __version__
from estitchup_pl.cli.configs import FOLDERS, config_folders, with_config_files
from estitchup_pl.cli.help import short_help
from estitchup_pl.cli.own_words import own_words
from estitchup_pl.errors import ConfigError, EstitchupError, did_you_mean
from estitchup_pl.stopping import Stopped, stoppable

COMMANDS: Final = {
    "train": ("estitchup_pl.cli.train", "make a model of a table of items, or of a store, in one command"),
    "fit": ("estitchup_pl.cli.lightning", "train a classifier on a store's embeddings"),
    "validate": ("estitchup_pl.cli.lightning", "evaluate a checkpoint on the validation rows"),
    "test": ("estitchup_pl.cli.lightning", "evaluate a checkpoint on the test rows"),
    "predict": ("estitchup_pl.cli.predict", 'write class or "none" of each item to a parquet or CSV file'),
    "embed": ("estitchup_pl.cli.embed", "turn a table of items with texts and images into a store"),
    "study": ("estitchup_pl.cli.study", "compare methods over trials and write tables, figures and a report"),
    "report": ("estitchup_pl.cli.report", "draw the tables, figures and page of a study again"),
    "queue": ("estitchup_pl.cli.queue", "choose the unlabelled items that are most worth a label"),
    "labels": ("estitchup_pl.cli.labels", "take people's answers into the labels of a store, or take them back"),
    "label-errors": ("estitchup_pl.cli.label_errors", "list the labels that are likely wrong"),
    "simulate": ("estitchup_pl.cli.simulate", "play rounds of labelling through, to see whether choosing pays"),
    "export": ("estitchup_pl.cli.export", "write a classifier as ONNX, or in the layout of Hugging Face"),
    "serve": ("estitchup_pl.cli.serve", "answer requests for decisions over HTTP"),
    "monitor": ("estitchup_pl.cli.monitor", "compare a batch of predictions with what is expected of them"),
    "store": ("estitchup_pl.cli.store", "create, describe or verify a store of embeddings"),
}


_LOST_PROCESS: Final = ("Connection reset by peer", "Connection closed by peer", "Broken pipe", "remote process exited")
"""What gloo, NCCL and their store say where a process is no longer there."""

_BUG: Final = 70
"""Exit status of a command that ends with an error that nobody thought of; ``sysexits.h`` calls it EX_SOFTWARE."""


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit status.

    0, 1 for an error it explains, 2 for a wrong call, 130 and 143 where SIGINT or SIGTERM has stopped it, 70 for a bug.
    """
    words = sys.argv[1:] if argv is None else argv
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if words[0] == "--version":
        print(f"estitchup {__version__}")
        return 0
    began = time.time()
    try:
        with stoppable():
            return _run(words[0], words[1:])
    except BrokenPipeError:  # whoever reads our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Stopped as stop:
        from estitchup_pl.cli.ending import end  # only what is stopped needs it

        return end(stop, began)
    except _explained_errors() as error:
        if debug:
            traceback.print_exc()
        _end_children(began)
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, EstitchupError) and not isinstance(error, ConfigError) else 2
    except Exception as error:  # the last net: nobody is shown a traceback who has not asked for it
        if debug:
            traceback.print_exc()
        _end_children(began)
        print(f"error: {_unexpected(error)}", file=sys.stderr)
        return 1 if isinstance(error, OSError | MemoryError) or _is_lost_process(error) else _BUG


def _run(command: str, words: list[str]) -> int:
    if command not in COMMANDS:
        rest = did_you_mean(command, COMMANDS) or f"\n\n{_overview()}"
        raise ConfigError(f"there is no command {command!r}{rest}")
    if "--help" in words or "-h" in words:
        if words[-2:] not in (["--help", "all"], ["-h", "all"]):
            print(short_help(command, words))
            return 0
        words = words[:-1]
    warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)")  # Lightning 2.6 under torch >= 2.14
    words = with_config_files(command, words)
    if command in FOLDERS:
        # Users' own classes lie in the working directory or beside a config; a console script sees neither by itself.
        # They come last, so that a file there never takes the place of an installed module.
        sys.path += [place for place in (os.getcwd(), *config_folders(words)) if place not in sys.path]
    module = importlib.import_module(COMMANDS[command][0])
    with own_words():
        return int(module.main([command, *words] if module.__name__.endswith(".lightning") else words))


def _end_children(since: float) -> None:
    if "lightning.fabric" in sys.modules:  # nothing else starts processes
        from estitchup_pl.cli.ending import end_children

        end_children(since)


def _explained_errors() -> tuple[type[Exception], ...]:
    """Errors whose message says what to do: ours, and Lightning's about options, once Lightning is imported."""
    if "lightning.fabric" not in sys.modules:
        return (EstitchupError,)
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    return EstitchupError, MisconfigurationException


def _unexpected(error: Exception) -> str:
    """Say in a sentence what came out of a command that none of its parts has explained."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return "there is not enough memory for this; --debug shows where"
    said = str(error).strip().partition("\n")[0]
    if _is_lost_process(error):
        reason = re.sub(r"^\[[^\]]*\]\s*", "", said).partition(". ")[0]  # without the line in gloo's code
        return (
            f"another process of this run has ended ({reason}); its own output says why, unless it was killed. Start "
            "all processes again, a fit with --ckpt_path and its last checkpoint"
        )
    return (
        f"{type(error).__name__}: {said}\nNobody thought of this: it may be a bug of estitchup. `--debug` shows where "
        "it comes from; please report it with that."
    )


def _is_lost_process(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _LOST_PROCESS)


def _overview() -> str:
    commands = "\n".join(f"  {name:<14}{text}" for name, (_, text) in COMMANDS.items())
    return (
        "usage: estitchup COMMAND [OPTION ...]\n\n"
        'Calibrated classifiers on precomputed embeddings that say "none" for what they do not know.\n\n'
        f"commands:\n{commands}\n\n"
        "`estitchup COMMAND --help` lists the options of a command."
    )

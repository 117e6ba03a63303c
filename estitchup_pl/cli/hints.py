"""What to do about an option or class name that the parser does not know: the nearest name that it does."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator

import lightning.pytorch as pl
import torch
from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch import loggers

from estitchup_pl import callbacks, data, model
from estitchup_pl.cli import config_files
from estitchup_pl.errors import did_you_mean

UNKNOWN_ARGUMENT = re.compile(r"unrecognized arguments: (--[\w.+-]+)")
UNKNOWN_OPTION = re.compile(r"(?:Option|does not accept option) '([\w.]+)'")
UNKNOWN_ATTRIBUTE = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")
UNKNOWN_CLASS = re.compile(r"Expected a dot import path string: (\w+)")

CLASS_PATH = re.compile(r"class_path:\s*([\w.]+)")
SHORT_NAME_MODULES = (
    callbacks,
    data,
    model,
    lightning_callbacks,
    loggers,
    torch.optim,
)
ALWAYS_USED = (
    model.EmbeddingClassifier,
    data.EmbeddingDataModule,
    model.EmbeddingMLP,
    model.TriangularCycle,
    data.TrialSplit,
    torch.optim.AdamW,
    pl.Trainer,
)


def explain(message: str, parser: ArgumentParser) -> str:
    """Say what a parser's message is about, with the nearest known name and the arguments a class accepts."""
    if found := UNKNOWN_ARGUMENT.search(message):
        # An abbreviation would be taken silently by argparse; here it is one more unknown argument.
        return f"there is no option {found[1]}{did_you_mean(found[1], parser._option_string_actions)}"
    if found := UNKNOWN_OPTION.search(message):
        return f"option {found[1]!r} is not accepted{_explain_option(found[1], parser)}"
    if found := UNKNOWN_ATTRIBUTE.search(message):
        return f"there is no class {found[2]!r} in {found[1]}{did_you_mean(found[2], dir(sys.modules[found[1]]))}"
    if found := UNKNOWN_CLASS.search(message):
        names = [name for place in SHORT_NAME_MODULES for name in vars(place)]
        return f"there is no class {found[1]!r}{did_you_mean(found[1], names)}"
    return message


def _explain_option(name: str, parser: ArgumentParser) -> str:
    if "." in name:
        return did_you_mean(name, (option.removeprefix("--") for option in parser._option_string_actions))
    accepted = {cls: _parameters(cls) for cls in (*_classes_named(sys.argv), *ALWAYS_USED)}
    hint = did_you_mean(name, (parameter for parameters in accepted.values() for parameter in parameters))
    for cls, parameters in accepted.items():
        if any(repr(parameter) in hint for parameter in parameters):
            return f"{hint}\n{cls.__name__} accepts: {', '.join(parameters)}"
    return hint


def _classes_named(argv: Iterable[str]) -> Iterator[type]:
    """Classes that the configuration files on a command line name, where they can be imported."""
    for path in config_files(argv):
        for class_path in CLASS_PATH.findall(path.read_text(encoding="utf-8")):
            place, _, name = class_path.rpartition(".")
            try:
                found = getattr(importlib.import_module(place), name)
            except (ImportError, AttributeError, ValueError):
                continue
            if isinstance(found, type):
                yield found


def _parameters(cls: type) -> list[str]:
    return [name for name in inspect.signature(cls).parameters if name not in ("args", "kwargs")]

"""What a command says is its own: nothing of Lightning on devices, seeds and products, and warnings in one line."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_LOGGERS: Final = (
    "lightning.pytorch.utilities.rank_zero",  # one of these two is what ``rank_zero_info`` writes to, whoever calls it
    "lightning.fabric.utilities.rank_zero",
    "lightning.fabric.utilities.seed",
    "lightning.pytorch.accelerators.cuda",
)
"""Where Lightning writes what nobody has asked for; what early stopping and profilers say goes elsewhere, and stays."""


@contextmanager
def own_words() -> Iterator[None]:
    """While a command runs, print what this package and users' classes say, and of Lightning what is a warning."""
    before = warnings.formatwarning
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    warnings.formatwarning = _one_line
    for logger in loggers:
        logger.addFilter(_is_not_lightnings)
    try:
        yield
    finally:
        warnings.formatwarning = before
        for logger in loggers:
            logger.removeFilter(_is_not_lightnings)


def _is_not_lightnings(record: logging.LogRecord) -> bool:
    if record.levelno >= logging.WARNING or "lightning" not in sys.modules:
        return True
    return not any(Path(record.pathname).is_relative_to(folder) for folder in sys.modules["lightning"].__path__)


def _one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"warning: {message}\n"

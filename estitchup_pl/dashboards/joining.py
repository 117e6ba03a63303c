"""Evaluating a checkpoint in the run of the fit that wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonargparse import Namespace

from estitchup_pl.dashboards.callback import Dashboard


def join(loggers: Any, checkpoint: Mapping[str, Any]) -> None:
    """Let loggers that are to be made go on in the runs that a checkpoint names, unless they name others.

    Args:
        loggers: Parsed value of ``trainer.logger``: the description of a logger, several, or a truth value.
        checkpoint: Lightning's dictionary.
    """
    runs = checkpoint.get("callbacks", {}).get(Dashboard.__qualname__, {}).get("runs", {})
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        if isinstance(logger, Namespace):
            for name, value in runs.get(logger.class_path.rpartition(".")[2], {}).items():
                if logger.init_args[name] is None:
                    logger.init_args[name] = value

"""What a worker process does: the fits of a batch, as the process that sent them would have done them."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from estitchup_pl.errors import ConfigError
from estitchup_pl.stacking.device import keep_freed_memory
from estitchup_pl.study.config import Backend, StudyConfig
from estitchup_pl.study.fitting import fit_and_keep
from estitchup_pl.study.folder import StudyFolder
from estitchup_pl.study.gpus import claim_gpu
from estitchup_pl.study.stage import Job, Stage
from estitchup_pl.study.study import Study

LOGGERS = ("lightning.pytorch", "lightning.fabric")

Message = tuple[str, type[Warning], str, int]
"""A warning: its text, category, file and line."""


@dataclass(frozen=True)
class Origin:
    """What a worker needs to do as the process that sent it the work would have done, in plain values.

    Attributes:
        options: The configuration, as JSON.
        folder: Folder of the study.
        directory: Working directory.
        path: Where Python looks for modules, users' own among them.
        levels: Level of each of :data:`LOGGERS`.
        stage: Name of the stage.
        backend: Who runs the workers.
    """

    options: str
    folder: str
    directory: str
    path: tuple[str, ...]
    levels: tuple[int, ...]
    stage: str
    backend: Backend

    @classmethod
    def of(cls, study: Study, stage: Stage) -> Origin:
        """Describe this process."""
        return cls(
            json.dumps(study.config.plain()),
            str(study.folder.path.absolute()),
            os.getcwd(),
            tuple(sys.path),
            tuple(logging.getLogger(name).level for name in LOGGERS),
            stage.name,
            study.config.backend,
        )


def work(origin: Origin, stage: Stage, batch: Sequence[Job]) -> list[Message]:
    """Fit a batch in a worker; return the warnings that came up, for the process that shows them."""
    _enter(origin)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        fit_and_keep(_study(origin), stage, batch)
    return [(str(one.message), one.category, one.filename, one.lineno) for one in caught]


def be_there() -> None:
    """Do nothing: to find this function, a worker has imported all that it needs."""


def _enter(origin: Origin) -> None:
    """Make this process like the one that sent the work."""
    try:
        os.chdir(origin.directory)
    except OSError as error:
        raise ConfigError(f"a worker does not see the working directory {origin.directory} ({error})") from error
    sys.path += [place for place in origin.path if place not in sys.path]
    for name, level in zip(LOGGERS, origin.levels, strict=True):
        logging.getLogger(name).setLevel(level)
    keep_freed_memory()
    if origin.backend == "loky":
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that shows the progress ends all
        claim_gpu()


@lru_cache(maxsize=1)
def _study(origin: Origin) -> Study:
    """Make the study once for all batches of a stage."""
    config = StudyConfig.from_plain(json.loads(origin.options))
    return Study(config, StudyFolder(Path(origin.folder)))


def say(messages: Sequence[Message]) -> None:
    """Show the warnings of a worker, by the filters of this process."""
    for text, category, filename, line in messages:
        warnings.warn_explicit(text, category, filename, line)

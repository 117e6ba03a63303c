"""What the commands of LightningCLI do on SIGINT and SIGTERM, and that only one fit writes to a folder."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any, Final

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from typing_extensions import override

from estitchup_pl.errors import CheckpointError
from estitchup_pl.locking import locked_folder
from estitchup_pl.model.checkpoints import read_checkpoint
from estitchup_pl.stopping import SIGNALS, Stopped, stoppable

GRACE_SECONDS: Final = 3.0
"""How long a fit that was asked to end may take for the epoch at hand, which only its end makes resumable exactly."""

STOPPED_NAME: Final = "stopped.ckpt"
"""Checkpoint of an epoch that no other checkpoint holds, written when a fit is stopped."""


class EndInOrder(pl.Callback):
    """Ends an evaluation on a signal, in the place of Lightning's own way, which goes on or ends with status 0."""

    def __init__(self) -> None:
        self._signals = ExitStack()

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._signals.enter_context(stoppable())  # Lightning has put a handler of its own before ours by now

    @override
    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._signals.enter_context(stoppable())

    @override
    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._signals.enter_context(stoppable())

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._signals.close()

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._signals.close()


class EndFitInOrder(Checkpoint):
    """Ends a fit on a signal, and lets no other fit write checkpoints to the same folder meanwhile.

    The epoch at hand is ended where that takes no more than :data:`GRACE_SECONDS`, and kept if no other checkpoint
    holds it; else, and at a second signal, the fit ends at once and goes back to its last checkpoint. It is a
    `Checkpoint` because Lightning calls those last, when all others have saved what they save of an epoch.
    """

    def __init__(self) -> None:
        self._held = ExitStack()
        self._request: int | None = None
        self._until = 0.0
        self._saved: list[Path] = []

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for folder in _folders(trainer) if trainer.is_global_zero else ():
            self._held.enter_context(locked_folder(folder))

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._held.enter_context(stoppable())
        for number in SIGNALS:
            signal.signal(number, self._ask)

    @override
    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self._end_if_overdue()

    @override
    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self._end_if_overdue()

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.strategy.reduce_boolean_decision(self._request is not None, all=False):
            return
        newest, folders = _newest(trainer), _folders(trainer)
        is_kept = newest is not None and newest[1]["global_step"] == trainer.global_step
        if folders and not trainer.strategy.broadcast(is_kept):  # all processes save, or none
            trainer.save_checkpoint(folders[0] / STOPPED_NAME)
            self._saved = [folders[0] / STOPPED_NAME]
        raise Stopped(self._request or signal.SIGTERM)

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._held.close()
        if self._request is not None:
            raise Stopped(self._request, _kept(trainer, self._saved))

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Stopped) and not exception.kept:
            exception.kept = _kept(trainer, self._saved)
        self._held.close()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._request is not None:
            raise Stopped(number)
        self._request, self._until = number, time.monotonic() + GRACE_SECONDS

    def _end_if_overdue(self) -> None:
        if self._request is not None and time.monotonic() > self._until:
            raise Stopped(self._request)


def _folders(trainer: pl.Trainer) -> list[Path]:
    """Folders that the fit's checkpoints go to."""
    names = [one.dirpath for one in trainer.checkpoint_callbacks if isinstance(one, ModelCheckpoint)]
    return list(dict.fromkeys(Path(name) for name in names if name and "://" not in str(name)))


def _newest(trainer: pl.Trainer, saved: Sequence[Path] = ()) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint of this fit, not of an older one in its folder, that holds most steps, and its content."""
    paths = [*saved]
    for one in trainer.checkpoint_callbacks:
        if isinstance(one, ModelCheckpoint):
            paths += map(Path, (one.best_model_path, one.last_model_path, *one.best_k_models))
    found = []
    for path in dict.fromkeys(path for path in paths if path.is_file()):
        try:
            found.append((path, read_checkpoint(path)))
        except CheckpointError:
            continue  # of somebody's own module
    return max(found, key=lambda pair: pair[1]["global_step"], default=None)


def _kept(trainer: pl.Trainer, saved: Sequence[Path]) -> str:
    newest = _newest(trainer, saved)
    if newest is None:
        return "no epoch had been saved; the same command begins anew"
    path, content = newest
    return f"epochs 0 to {content['epoch']} are kept; the same command goes on with --ckpt_path {path}"

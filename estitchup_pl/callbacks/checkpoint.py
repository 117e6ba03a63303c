"""Which checkpoints of a fit are kept: the last one, or the best ones."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from typing_extensions import override

from estitchup_pl.errors import ConfigError

LINK: Final = "last.ckpt"
"""Name of the link to the checkpoint of the latest fit."""


class FitCheckpoint(ModelCheckpoint):
    """Lightning's ``ModelCheckpoint`` as ``estitchup fit`` uses it: ``last.ckpt``, replaced after each epoch.

    Beside the numbered folders of a logger's runs stands a link, ``runs/last.ckpt``, to the checkpoint of the latest
    fit, the best one where a value is monitored: a path that does not change with the number of the run.

    Of several files each has a name of its own, and a value ``val/…`` is looked at only when it is that of the weights
    to be saved, not in epochs without a validation.

    Args:
        dirpath: Folder of the files. Default: ``checkpoints`` in the logger's folder.
        filename: Name of the file, or of several a pattern such as ``{epoch}``. Default: ``last``, or of several
            ``{epoch}-{step}``.
        monitor: Logged value by which the best are kept, such as ``val/aupr``. Default: the last one is kept.
        mode: Whether the least or the greatest value is the best.
        save_top_k: Number of the best to keep; -1 for all.
        enable_version_counter: Whether a file that exists keeps its name, rather than being replaced.
        save_on_train_epoch_end: Whether to save at the end of an epoch, rather than of a validation.
        options: Further arguments of ``ModelCheckpoint``.

    Raises:
        ConfigError: If several files would have the same name.

    Example:
        >>> FitCheckpoint().filename, FitCheckpoint(monitor="val/aupr", mode="max", save_top_k=2).filename
        ('last', '{epoch}-{step}')
    """

    def __init__(
        self,
        dirpath: str | None = None,
        filename: str | None = None,
        monitor: str | None = None,
        mode: Literal["min", "max"] = "min",
        save_top_k: int = 1,
        enable_version_counter: bool = False,
        save_on_train_epoch_end: bool | None = True,
        **options: Any,
    ) -> None:
        several = save_top_k not in (0, 1)
        if several and filename is not None and "{" not in filename:
            raise ConfigError(
                f"checkpoint.save_top_k={save_top_k} keeps several files, which would all be called {filename!r}: name "
                "them by what differs (--checkpoint.filename '{epoch}'), or leave the name out"
            )
        super().__init__(
            dirpath,
            filename or ("{epoch}-{step}" if several else "last"),
            monitor=monitor,
            mode=mode,
            save_top_k=save_top_k,
            enable_version_counter=enable_version_counter,
            save_on_train_epoch_end=save_on_train_epoch_end,
            **options,
        )
        self._validated_step = -1
        self._is_placed = dirpath is not None
        self._has_own_folder = False

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._has_own_folder = bool(trainer.loggers) and not self._is_placed

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated_step = trainer.global_step
        super().on_validation_end(trainer, pl_module)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        of_validation = self.monitor is not None and self.monitor.startswith("val/")
        if not of_validation or self._validated_step == trainer.global_step:
            super().on_train_epoch_end(trainer, pl_module)
        self._point_to_this(trainer)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_train_epoch_end(trainer, pl_module)  # where the end of the fit has validated
        super().on_train_end(trainer, pl_module)
        self._point_to_this(trainer)

    @property
    def stable_path(self) -> str:
        """Path of the last checkpoint, or the best one, by the link where there is one; empty if none was written."""
        path, link = self.best_model_path, self._link
        if link is not None and link.is_symlink() and link.exists() and link.samefile(path):
            path = str(link)
        is_near = Path(path).is_relative_to(Path.cwd())
        return os.path.relpath(path) if path and is_near else path

    @property
    def _link(self) -> Path | None:
        """The link, if a logger has named the folder of this run, on this machine."""
        path = Path(self.best_model_path)
        return path.parents[2] / LINK if self._has_own_folder and path.is_file() else None

    def _point_to_this(self, trainer: pl.Trainer) -> None:
        link = self._link
        if link is None or not trainer.is_global_zero or (link.exists() and not link.is_symlink()):
            return
        target = os.path.relpath(self.best_model_path, link.parent)
        if link.is_symlink() and os.readlink(link) == target:
            return
        with suppress(OSError):  # there are file systems without links
            temporary = link.with_name(f".{link.name}-{os.getpid()}")
            temporary.symlink_to(target)
            temporary.replace(link)

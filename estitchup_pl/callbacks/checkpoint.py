"""Which checkpoints of a fit are kept: the last one, or the best ones."""

from __future__ import annotations

from typing import Any, Literal

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from typing_extensions import override

from estitchup_pl.errors import ConfigError


class FitCheckpoint(ModelCheckpoint):
    """Lightning's ``ModelCheckpoint`` as ``estitchup fit`` uses it: ``last.ckpt``, replaced after each epoch.

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

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated_step = trainer.global_step
        super().on_validation_end(trainer, pl_module)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        of_validation = self.monitor is not None and self.monitor.startswith("val/")
        if not of_validation or self._validated_step == trainer.global_step:
            super().on_train_epoch_end(trainer, pl_module)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_train_epoch_end(trainer, pl_module)  # where the end of the fit has validated
        super().on_train_end(trainer, pl_module)

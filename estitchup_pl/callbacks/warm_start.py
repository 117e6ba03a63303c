"""Going on from an earlier fit when the classes have become others."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override

from estitchup_pl.callbacks.partners import classifier
from estitchup_pl.errors import ConfigError
from estitchup_pl.model.warm_start import warm_start


class WarmStart(pl.Callback):
    """Begins a fit with the weights of an earlier one: ``--warm_start FILE`` of ``estitchup fit``.

    The output layer grows and shrinks with the classes, which are matched by name; see
    :func:`~estitchup_pl.model.warm_start.warm_start`. Optimizer and schedule begin anew. A fit that is resumed
    (``--ckpt_path``) goes on with its own weights, whatever it began with.

    Args:
        checkpoint: Checkpoint of the earlier fit.
    """

    def __init__(self, checkpoint: str | Path) -> None:
        self.checkpoint = str(checkpoint)

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        model = classifier(pl_module, self)
        if model.network is not None:
            raise ConfigError(
                f"{type(self).__name__} begins a fit of a new classifier, and this one has a network already: give the "
                "fit a new one"
            )
        model.configure_model()  # before a checkpoint that the fit is resumed from takes its place
        rank_zero_info(f"warm start from {self.checkpoint}: {warm_start(model, self.checkpoint)}")

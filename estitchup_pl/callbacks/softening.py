"""Label softening (Sec. 2.4)."""

from __future__ import annotations

import lightning.pytorch as pl

from estitchup_pl.batch import EmbeddingBatch
from estitchup_pl.callbacks.augmentation import Augmentation
from estitchup_pl.errors import ConfigError
from estitchup_pl.functional import soften_labels


class LabelSoftening(pl.Callback):
    """Softens the targets of each training batch, after any augmentation has mixed them (Sec. 2.4).

    Args:
        softness: Value subtracted from every positive target, in ``[0, 1]``; the paper's "Label Softness".

    Raises:
        ConfigError: If ``softness`` is outside ``[0, 1]``, or an augmentation comes after this callback.
    """

    def __init__(self, softness: float = 0.1) -> None:
        if not 0 <= softness <= 1:
            raise ConfigError(f"softness must lie in [0, 1], got {softness}")
        self.softness = softness

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check the order of the callbacks: mixing softened targets would soften them unevenly."""
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        for later in callbacks[callbacks.index(self) + 1 :]:
            if isinstance(later, Augmentation):
                name = type(later).__name__
                raise ConfigError(
                    f"LabelSoftening comes before {name} in trainer.callbacks, but softening applies to the mixed "
                    f"targets (Sec. 2.4): put {name} first"
                )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: EmbeddingBatch, batch_idx: int
    ) -> None:
        """Rebind the batch's targets to softened ones."""
        batch.targets = soften_labels(batch.targets, self.softness)

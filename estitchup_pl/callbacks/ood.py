"""The confidence threshold below which an item is "none" (Secs. 2.5, 4.3)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from estitchup_pl.batch import EmbeddingBatch
from estitchup_pl.callbacks.partners import classifier, data_module
from estitchup_pl.errors import CheckpointError, ConfigError
from estitchup_pl.functional import Heuristic
from estitchup_pl.metrics import ConfidenceThreshold
from estitchup_pl.model.checkpoints import read_checkpoint


class OODThreshold(pl.Callback):
    """Chooses the confidence threshold and keeps it on the module, which applies it in test and prediction.

    By default it is fitted after every validation epoch, on a validation set that contains "none" items:
    rows of classes without a training row, as :class:`~estitchup_pl.data.splits.ThresholdSplit` makes them. To
    train on all rows afterwards, as the paper does (Sec. 4.3), hand the threshold over to the second fit with
    ``checkpoint``, or as a number.

    Args:
        heuristic: ``"intersection"`` of overall and "none" accuracy, or the largest ``"tp_ratio"``, the ratio of
            true positives to false positives and false negatives, "none" and known classes weighted equally.
        checkpoint: Checkpoint of the fit whose threshold is taken over; nothing is fitted then.
        value: Threshold in ``[0, 1]`` to use as it is; nothing is fitted then.

    Raises:
        ConfigError: If ``value`` is outside ``[0, 1]``, or given together with ``checkpoint``.
        CheckpointError: If ``checkpoint`` cannot be read or holds no threshold.
    """

    def __init__(
        self,
        heuristic: Heuristic = "intersection",
        checkpoint: str | Path | None = None,
        value: float | None = None,
    ) -> None:
        if value is not None and checkpoint is not None:
            raise ConfigError("OODThreshold takes a checkpoint or a value, not both")
        if value is not None and not 0 <= value <= 1:
            raise ConfigError(f"the threshold must lie in [0, 1], got {value}")
        self.value = read_threshold(checkpoint) if checkpoint is not None else value
        self._metric = ConfidenceThreshold(heuristic)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set a given threshold, or check that the validation set can give one."""
        if self.value is not None:
            classifier(pl_module, self).threshold = torch.tensor(self.value, device=pl_module.device)
            return
        self._metric.to(pl_module.device)
        data = data_module(trainer)
        if data is None:
            return  # validation rows of somebody's own
        if not data.validates_unknown:
            raise ConfigError(
                "OODThreshold cannot fit a threshold: no validation row belongs to a class outside training, so "
                'none is "none". Hold classes out (data.split: ThresholdSplit), take the threshold of such a fit '
                "(OODThreshold's checkpoint), or give its value"
            )
        if data.validates_on_test_rows:
            rank_zero_warn(
                "the validation rows are the test rows too, so a threshold fitted on them looks better in test "
                "than it is; fit it with data.split=ThresholdSplit and hand it over with OODThreshold's checkpoint"
            )

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: EmbeddingBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take in the predictions of a batch."""
        if self._fits(trainer):
            if not isinstance(outputs, Mapping) or "probabilities" not in outputs:
                raise ConfigError(
                    f"OODThreshold needs {type(pl_module).__name__}.validation_step to return a dictionary with "
                    "'probabilities' of shape (batch, classes)"
                )
            self._metric.update(outputs["probabilities"], batch.labels, batch.rows)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Fit the threshold; the module computes and logs its metrics right after."""
        if self._fits(trainer):
            classifier(pl_module, self).threshold = self._metric.compute().to(pl_module.device)
            self._metric.reset()

    def _fits(self, trainer: pl.Trainer) -> bool:
        return self.value is None and trainer.state.fn == "fit" and not trainer.sanity_checking


def read_threshold(checkpoint: str | Path) -> float:
    """Read the confidence threshold that a fit has left in its checkpoint.

    Raises:
        CheckpointError: If the file is not a checkpoint of a classifier, or holds no fitted threshold.
    """
    threshold = float(read_checkpoint(checkpoint)["state_dict"]["threshold"])
    if threshold == 0:
        raise CheckpointError(f"{checkpoint}: holds no fitted threshold; fit it with OODThreshold among the callbacks")
    return threshold

"""Which checkpoints are kept: the last, or as many of the best as asked for, each by its own value."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from training import SMALL, classifier, data, trainer

from estitchup_pl import EmbeddingClassifier
from estitchup_pl.callbacks import FitCheckpoint, OODThreshold
from estitchup_pl.data.splits import ThresholdSplit, TrialSplit
from estitchup_pl.errors import ConfigError


def saved(folder: Path) -> dict[str, int]:
    return {file.name: torch.load(file, weights_only=True)["global_step"] for file in sorted(folder.glob("*.ckpt"))}


class Values(pl.Callback):
    """Logs a value of each epoch's end and of each validation."""

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log("mine", self.values[trainer.current_epoch])

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log("val/mine", self.values[trainer.current_epoch])


def test_by_default_the_last_epoch_is_kept(tmp_path: Path) -> None:
    run = trainer(tmp_path, 3, enable_checkpointing=True, callbacks=[FitCheckpoint(tmp_path)])
    run.fit(classifier(), data())
    assert saved(tmp_path) == {"last.ckpt": run.global_step}


def test_the_best_two_are_two_files(tmp_path: Path) -> None:
    keeper = FitCheckpoint(tmp_path, monitor="mine", mode="max", save_top_k=2)
    run = trainer(tmp_path, 4, enable_checkpointing=True, callbacks=[Values([9.0, 1.0, 7.0, 3.0]), keeper])
    run.fit(classifier(), data())
    steps = run.global_step // 4
    assert saved(tmp_path) == {f"epoch=0-step={steps}.ckpt": steps, f"epoch=2-step={3 * steps}.ckpt": 3 * steps}
    assert Path(keeper.best_model_path).name == f"epoch=0-step={steps}.ckpt"
    assert keeper.best_model_score == 9


def test_a_validation_counts_for_the_weights_that_it_has_seen(tmp_path: Path) -> None:
    keeper = FitCheckpoint(tmp_path, "{epoch}", monitor="val/mine", mode="max", save_top_k=2)
    callbacks = [Values([1.0, 5.0, 0.0, 4.0, 0.0, 2.0]), keeper]
    run = trainer(tmp_path, 6, enable_checkpointing=True, check_val_every_n_epoch=2, callbacks=callbacks)
    run.fit(classifier(), data())
    assert list(saved(tmp_path)) == ["epoch=1.ckpt", "epoch=3.ckpt"]


@pytest.mark.parametrize("stops_late", [False, True])
def test_the_validation_at_the_end_of_a_fit_counts_too(tmp_path: Path, stops_late: bool) -> None:
    keeper = FitCheckpoint(tmp_path, monitor="val/mine", mode="max")
    stop = EarlyStopping("train/loss", patience=3, mode="max", check_on_train_epoch_end=True)
    callbacks = [Values([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), OODThreshold(), keeper, *([stop] if stops_late else [])]
    run = trainer(
        tmp_path, 9 if stops_late else 5, enable_checkpointing=True, check_val_every_n_epoch=3, callbacks=callbacks
    )
    run.fit(classifier(), data(split=ThresholdSplit(TrialSplit(0, 0.6), held_out=2)))
    assert saved(tmp_path) == {"last.ckpt": run.global_step}
    loaded = EmbeddingClassifier.load_from_checkpoint(tmp_path / "last.ckpt", network=SMALL)
    assert loaded.decision.has_threshold


@pytest.mark.parametrize("count", [2, -1])
def test_one_name_for_several_files_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=f"save_top_k={count} keeps several files, .* called 'best'"):
        FitCheckpoint(filename="best", monitor="val/aupr", save_top_k=count)
    assert FitCheckpoint(filename="{epoch}", monitor="val/aupr", save_top_k=count).filename == "{epoch}"

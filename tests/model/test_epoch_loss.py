"""The mean loss of an epoch is that of its rows, and the first batch that has none is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from blobs import blobs_store
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch.optim import SGD
from training import classifier, data, trainer

from estitchup_pl.errors import DivergedError
from estitchup_pl.model.epoch_loss import EpochLoss


@pytest.mark.parametrize("batches", [1, 3, 1024, 2500])
def test_the_mean_counts_rows(batches: int) -> None:
    generator = torch.Generator().manual_seed(batches)
    losses = torch.rand(batches, generator=generator, dtype=torch.float64)
    sizes = torch.randint(1, 5, (batches,), generator=generator)
    epoch = EpochLoss()
    for loss, size in zip(losses, sizes, strict=True):
        epoch.add(loss, torch.zeros(int(size), dtype=torch.int64))
    epoch.check(0)
    assert float(epoch.mean()) == pytest.approx(float((losses * sizes).sum() / sizes.sum()), rel=1e-5)


@pytest.mark.parametrize("bad", [0, 7, 1023, 1024, 2000])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_the_first_batch_without_a_finite_loss_is_named(bad: int, value: float) -> None:
    epoch = EpochLoss()
    for batch in range(2100):
        epoch.add(torch.tensor(value if batch in (bad, bad + 5) else 1.0), torch.tensor([3 * batch, 3 * batch + 1]))
    with pytest.raises(DivergedError, match=rf"epoch 4, first in batch {bad} \(rows {3 * bad}, {3 * bad + 1} of"):
        epoch.check(4)


class Poison(Callback):
    """Makes the embeddings of one batch infinite, as an exploding learning rate would make the loss."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.place = epoch, batch
        self.rows: list[int] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.place:
            batch.embeddings = batch.embeddings * torch.inf
            self.rows = batch.rows.tolist()


@pytest.mark.parametrize(
    "options", [{"every_n_epochs": 1}, {"every_n_train_steps": 1}, {"save_on_train_epoch_end": False}]
)
def test_a_fit_that_diverges_stops_before_it_saves_anything(tmp_path: Path, options: dict) -> None:
    poison = Poison(epoch=2, batch=1)
    kept = ModelCheckpoint(tmp_path, filename="last", enable_version_counter=False, **options)
    run = trainer(tmp_path, epochs=5, callbacks=[poison, kept], enable_checkpointing=True)
    with pytest.raises(DivergedError, match=r"in epoch 2, first in batch 1 \(rows ") as raised:
        run.fit(classifier(), data(store=blobs_store()))
    assert ", ".join(map(str, poison.rows[:8])) in str(raised.value)
    assert run.current_epoch == 2
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())
    assert checkpoint["epoch"] == (2 if "every_n_train_steps" in options else 1)


def test_a_learning_rate_that_is_far_too_high_is_told(tmp_path: Path) -> None:
    model = classifier(optimizer=lambda params: SGD(params, lr=1e30), lr_scheduler=None)
    with pytest.raises(DivergedError, match="Lower the learning rate"):
        trainer(tmp_path, epochs=5).fit(model, data())

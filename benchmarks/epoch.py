"""Time of a training epoch: `EmbeddingClassifier` under Lightning, with every default on, against a bare loop.

The bare loop is what one would write by hand: tensors in memory, the same network, E-Mixup from the global
generator, binary cross-entropy, fused AdamW, the cyclic learning rate, nothing logged. Both sides run in turn in
one process and the ratio of their medians is printed; E-Stitchup is timed against E-Mixup the same way.

    python benchmarks/epoch.py --rows 4400 --dim 4864 --classes 171
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings

import lightning.pytorch as pl
import numpy as np
import pyarrow as pa
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.nn import functional as F

from estitchup_pl import EmbeddingClassifier, EmbeddingDataModule, EmbeddingMLP, EmbeddingStore
from estitchup_pl.callbacks import EmbeddingAugmentation, EMixup, EStitchup
from estitchup_pl.data.splits import ColumnSplit
from estitchup_pl.model.schedules import TriangularCycle


class EpochClock(pl.Callback):
    """Notes the seconds of each training epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seconds.append(time.perf_counter() - self.start)


def make_store(rows: int, dim: int, classes: int) -> EmbeddingStore:
    generator = np.random.default_rng(0)
    labels = [f"class-{code}" for code in generator.integers(0, classes, rows)]
    table = pa.table(
        {"id": [str(row) for row in range(rows)], "label": labels, "split": ["train"] * (rows - 128) + ["val"] * 128}
    )
    return EmbeddingStore.from_arrays(table, {"text": generator.normal(size=(rows, dim)).astype(np.float32)})


def lightning_epochs(
    store: EmbeddingStore, batch: int, epochs: int, augmentation: EmbeddingAugmentation
) -> list[float]:
    clock = EpochClock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            callbacks=[augmentation, clock],
            logger=CSVLogger(folder),
            num_sanity_val_steps=0,
            check_val_every_n_epoch=epochs,
            log_every_n_steps=1,
            enable_model_summary=False,
        )
        trainer.fit(EmbeddingClassifier(), EmbeddingDataModule(store, ColumnSplit(), batch_size=batch))
    return clock.seconds[1:-1]  # the first warms up, the last validates


def bare_epochs(store: EmbeddingStore, batch: int, epochs: int, classes: int) -> list[float]:
    rows = len(store) - 128
    embeddings = torch.from_numpy(store.gather(np.arange(rows)))
    targets = torch.eye(classes)[torch.randint(0, classes, (rows,))]
    network = EmbeddingMLP(embeddings.shape[1], classes).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-4, weight_decay=1e-4, fused=True)
    schedule = TriangularCycle(optimizer, steps_per_epoch=-(-rows // batch))
    beta = torch.distributions.Beta(0.4, 0.4)
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        for index in torch.randperm(rows).split(batch):
            x, y = embeddings[index], targets[index]
            lam, partner = beta.sample((len(index), 1)), torch.randperm(len(index))
            x, y = x[partner].lerp_(x, lam), y[partner].lerp_(y, lam)
            loss = F.binary_cross_entropy_with_logits(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        seconds.append(time.perf_counter() - start)
    return seconds[1:-1]


def options_of(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=4400)
    parser.add_argument("--dim", type=int, default=4864)
    parser.add_argument("--classes", type=int, default=171)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=6, help="epochs of each turn; the first and last do not count")
    parser.add_argument("--turns", type=int, default=3)
    return parser.parse_args()


def main() -> None:
    options = options_of(__doc__)
    warnings.simplefilter("ignore")
    pl.seed_everything(0, verbose=False)
    store = make_store(options.rows + 128, options.dim, options.classes)
    seconds: dict[str, list[float]] = {"bare loop, E-Mixup": [], "Lightning, E-Mixup": [], "Lightning, E-Stitchup": []}
    for _ in range(options.turns):
        seconds["bare loop, E-Mixup"] += bare_epochs(store, options.batch, options.epochs, options.classes)
        seconds["Lightning, E-Mixup"] += lightning_epochs(store, options.batch, options.epochs, EMixup())
        seconds["Lightning, E-Stitchup"] += lightning_epochs(store, options.batch, options.epochs, EStitchup())
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name:<24}{median * 1000:8.1f} ms an epoch (median of {len(seconds[name])})")
    bare, e_mixup, e_stitchup = medians.values()
    print(f"Lightning / bare loop, E-Mixup   {e_mixup / bare:.3f}")
    print(f"E-Stitchup / E-Mixup             {e_stitchup / e_mixup:.3f}")


if __name__ == "__main__":
    main()

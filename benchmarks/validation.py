"""Share of a fit that is spent on validation, at the interval of the shipped configurations (12 epochs).

The fit is E-Stitchup's under Lightning with every default on, and a threshold that is fitted after each validation;
both times are taken in the same fit, from its first batch to its last.

    python benchmarks/validation.py --val_rows 1333 40000
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
from lightning.pytorch.loggers import CSVLogger

from estitchup_pl import EmbeddingClassifier, EmbeddingDataModule, EmbeddingStore
from estitchup_pl.callbacks import EStitchup, OODThreshold
from estitchup_pl.data import ColumnSplit

INTERVAL = 12


class Clock(pl.Callback):
    """Notes the seconds of each validation, and those of the whole fit."""

    def __init__(self) -> None:
        self.validations: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.began = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.start = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validations.append(time.perf_counter() - self.start)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seconds = time.perf_counter() - self.began


def make_store(train: int, val: int, dim: int, classes: int) -> EmbeddingStore:
    """Rows of which one validation row in twenty belongs to a class that nothing trains on."""
    generator = np.random.default_rng(0)
    labels = [f"class-{code}" for code in generator.integers(0, classes, train + val)]
    labels[train::20] = ["unknown"] * len(labels[train::20])
    parts = ["train"] * train + ["val"] * val
    table = pa.table({"id": [str(row) for row in range(train + val)], "label": labels, "split": parts})
    return EmbeddingStore.from_arrays(table, {"text": generator.normal(size=(train + val, dim)).astype(np.float32)})


def share(store: EmbeddingStore, epochs: int) -> tuple[float, float]:
    """Share of validation in a fit, and the median seconds of one."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            callbacks=[EStitchup(), OODThreshold(), clock],
            logger=CSVLogger(folder),
            num_sanity_val_steps=0,
            check_val_every_n_epoch=INTERVAL,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        trainer.fit(EmbeddingClassifier(), EmbeddingDataModule(store, ColumnSplit()))
    return sum(clock.validations) / clock.seconds, statistics.median(clock.validations)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=4400, help="training rows")
    parser.add_argument("--val_rows", type=int, nargs="+", default=[1333, 40_000])
    parser.add_argument("--dim", type=int, default=1792)
    parser.add_argument("--classes", type=int, default=126)
    parser.add_argument("--epochs", type=int, default=2 * INTERVAL)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    pl.seed_everything(0, verbose=False)
    for val in options.val_rows:
        store = make_store(options.rows, val, options.dim, options.classes)
        shares, seconds = zip(*(share(store, options.epochs) for _ in range(options.turns)), strict=True)
        print(f"{val:>7,} validation rows every {INTERVAL} epochs of {options.rows:,} training rows:", end=" ")
        print(f"{statistics.median(shares):.3f} of the fit, {statistics.median(seconds) * 1000:.0f} ms each")


if __name__ == "__main__":
    main()

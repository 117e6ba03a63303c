"""Time of stacked runs against the same runs fitted one after another, as a ratio.

Runs take the six methods of the paper in turn, each with a trial and a seed of its own. Both sides are timed in turn
in one process by their epochs, so that what a fit needs to begin (which a stack needs once) does not count.

    python benchmarks/stack.py --rows 4400 --dim 4864 --classes 171 --sizes 6 12 30
"""

from __future__ import annotations

import argparse
import statistics
import warnings

import lightning.pytorch as pl
from epoch import EpochClock, make_store

from estitchup_pl import EmbeddingClassifier, EmbeddingDataModule, EmbeddingStore
from estitchup_pl.callbacks import EMixup, EStitchup, LabelSoftening
from estitchup_pl.data.splits import TrialSplit
from estitchup_pl.stacking import Run, StackedClassifier, StackedDataModule

METHODS = (
    list,
    lambda: [LabelSoftening()],
    lambda: [EMixup()],
    lambda: [EStitchup()],
    lambda: [EMixup(), LabelSoftening()],
    lambda: [EStitchup(), LabelSoftening()],
)


def make_run(store: EmbeddingStore, position: int) -> Run:
    data = EmbeddingDataModule(store, TrialSplit(position, train_fraction=0.9))
    return Run(f"run {position}", EmbeddingClassifier(), data, METHODS[position % len(METHODS)](), seed=position)


def fit(model: pl.LightningModule, data: pl.LightningDataModule, epochs: int, callbacks: list[pl.Callback]) -> float:
    """Median seconds of an epoch; the first warms up."""
    clock = EpochClock()
    pl.Trainer(
        max_epochs=epochs,
        callbacks=[*callbacks, clock],
        accelerator="auto",
        devices=1,
        logger=False,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_model_summary=False,
    ).fit(model, data)
    return statistics.median(clock.seconds[1:])


def singles(store: EmbeddingStore, epochs: int) -> float:
    """Mean seconds of an epoch of a run by itself, over the methods."""
    runs = [make_run(store, position) for position in range(len(METHODS))]
    return statistics.mean(fit(run.model, run.data, epochs, list(run.callbacks)) for run in runs)


def stacked(store: EmbeddingStore, size: int, epochs: int) -> float:
    """Seconds of an epoch of a stack, per run."""
    runs = [make_run(store, position) for position in range(size)]
    return fit(StackedClassifier(runs), StackedDataModule(runs), epochs, []) / size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=4400, help="training rows of a run")
    parser.add_argument("--dim", type=int, default=4864)
    parser.add_argument("--classes", type=int, default=171)
    parser.add_argument("--sizes", type=int, nargs="+", default=[6, 12, 30])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--turns", type=int, default=2)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    store = make_store(round(options.rows / 0.9), options.dim, options.classes)
    single: list[float] = []
    stacks: dict[int, list[float]] = {size: [] for size in options.sizes}
    for _ in range(options.turns):
        single.append(singles(store, options.epochs))
        for size, seconds in stacks.items():
            seconds.append(stacked(store, size, options.epochs))
    alone = statistics.median(single)
    print(f"alone      {alone * 1000:8.1f} ms a run and epoch")
    for size, seconds in stacks.items():
        median = statistics.median(seconds)
        print(f"stack {size:3d}  {median * 1000:8.1f} ms a run and epoch, ratio {median / alone:.3f}")


if __name__ == "__main__":
    main()

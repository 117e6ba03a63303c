"""Time of stacked runs against the same runs fitted one after another by the Trainer, as a ratio.

Runs take the six methods of the paper in turn, each with a trial and a seed of its own. Both sides are timed in turn
in one process by their epochs, so that what a fit needs to begin (which a stack needs once) does not count.

    python benchmarks/stack.py --rows 4400 --dim 4864 --classes 171 --sizes 1 2 6
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import lightning.pytorch as pl
import torch
from epoch import EpochClock, make_store

from estitchup_pl import EmbeddingClassifier, EmbeddingDataModule, EmbeddingStore
from estitchup_pl.callbacks import EMixup, EStitchup, LabelSoftening
from estitchup_pl.data.splits import TrialSplit
from estitchup_pl.stacking import Run
from estitchup_pl.stacking.compiling import Compile
from estitchup_pl.stacking.fit import prepare
from estitchup_pl.stacking.program import Program
from estitchup_pl.stacking.recipe import read_recipe

METHODS = (
    list,
    lambda: [LabelSoftening()],
    lambda: [EMixup()],
    lambda: [EStitchup()],
    lambda: [EMixup(), LabelSoftening()],
    lambda: [EStitchup(), LabelSoftening()],
)
Autocast = Callable[[], AbstractContextManager[None]]


def make_run(store: EmbeddingStore, position: int) -> Run:
    data = EmbeddingDataModule(store, TrialSplit(position, train_fraction=0.9))
    return Run(f"run {position}", EmbeddingClassifier(), data, METHODS[position % len(METHODS)](), seed=position)


def make_program(
    store: EmbeddingStore, size: int, device: str = "cpu", compile: Compile = "none", autocast: Autocast = nullcontext
) -> Program:
    runs = [make_run(store, position) for position in range(size)]
    pairs = sorted(((run, recipe) for run in runs if (recipe := read_recipe(run))), key=lambda pair: pair[1].mixer)
    for run in runs:
        prepare(run, torch.device("cpu"))
    return Program(*zip(*pairs, strict=True), torch.device(device), autocast, compile)


def train(program: Program, epoch: int) -> float:
    """Seconds of an epoch."""
    start = time.perf_counter()
    program.begin_epoch(epoch, range(len(program.steps)))
    for _ in range(max(program.steps)):
        program.step()
    program.mean_losses()  # waits for the device
    return time.perf_counter() - start


def stacked(store: EmbeddingStore, size: int, epochs: int, autocast: Autocast) -> float:
    """Median seconds of an epoch of a stack, per run; the first warms up."""
    program = make_program(store, size, autocast=autocast)
    return statistics.median([train(program, epoch) for epoch in range(epochs)][1:]) / size


def singles(store: EmbeddingStore, epochs: int, precision: str) -> float:
    """Mean seconds of an epoch of a run by itself, over the methods."""
    means = []
    for run in (make_run(store, position) for position in range(len(METHODS))):
        clock = EpochClock()
        pl.Trainer(
            max_epochs=epochs,
            callbacks=[*run.callbacks, clock],
            accelerator="auto",
            devices=1,
            precision=precision,
            logger=False,
            limit_val_batches=0,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        ).fit(run.model, run.data)
        means.append(statistics.median(clock.seconds[1:]))
    return statistics.mean(means)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=4400, help="training rows of a run")
    parser.add_argument("--dim", type=int, default=1792)
    parser.add_argument("--classes", type=int, default=126)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 6])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--bf16", action="store_true", help="products in 16 bits on both sides")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    store = make_store(round(options.rows / 0.9), options.dim, options.classes)

    def autocast() -> AbstractContextManager[None]:
        return torch.autocast("cpu", torch.bfloat16) if options.bf16 else nullcontext()

    single: list[float] = []
    stacks: dict[int, list[float]] = {size: [] for size in options.sizes}
    for _ in range(options.turns):
        single.append(singles(store, options.epochs, "bf16-mixed" if options.bf16 else "32-true"))
        for size, seconds in stacks.items():
            seconds.append(stacked(store, size, options.epochs, autocast))
    alone = statistics.median(single)
    print(f"alone      {alone * 1000:8.1f} ms a run and epoch")
    for size, seconds in stacks.items():
        median = statistics.median(seconds)
        print(f"stack {size:3d}  {median * 1000:8.1f} ms a run and epoch, ratio {median / alone:.3f}")


if __name__ == "__main__":
    main()

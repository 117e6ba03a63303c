"""Time of a study's fits in workers of one thread against fits one after another with all threads, as a ratio.

The fits one after another are the Trainer's, in float32, as `estitchup fit` makes them. The workers are processes that
train small stacks as those of a study do, all at the same time; each epoch is timed in its process, so that what a
process needs to begin does not count. The last ratio is how many times the runs an hour all workers do of one.

    python benchmarks/workers.py --rows 4400 --dim 4864 --classes 171
"""

from __future__ import annotations

import argparse
import statistics
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from epoch import make_store
from joblib import Parallel, cpu_count, delayed
from stack import make_program, singles, train

from estitchup_pl.stacking.device import has_bfloat16, keep_freed_memory, one_thread
from estitchup_pl.stacking.fit import CPU_RUNS


def autocast() -> AbstractContextManager[None]:
    return torch.autocast("cpu", torch.bfloat16)


def in_worker(place: str, rows: int, dim: int, classes: int, epochs: int, narrow: bool) -> float:
    """Median seconds of an epoch of a stack of one worker, per run."""
    sys.path.append(place)
    warnings.simplefilter("ignore")
    keep_freed_memory()
    with one_thread():
        store = make_store(round(rows / 0.9), dim, classes)
        program = make_program(store, CPU_RUNS, autocast=autocast if narrow else nullcontext)
        return statistics.median([train(program, epoch) for epoch in range(epochs)][1:]) / CPU_RUNS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=4400, help="training rows of a run")
    parser.add_argument("--dim", type=int, default=1792)
    parser.add_argument("--classes", type=int, default=126)
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--epochs", type=int, default=4, help="epochs of each turn; the first does not count")
    parser.add_argument("--turns", type=int, default=2)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    place, data = str(Path(__file__).parent), (options.rows, options.dim, options.classes)
    store = make_store(round(options.rows / 0.9), *data[1:])
    kinds = [("float32", False)] + [("bfloat16", True)] * has_bfloat16(torch.device("cpu"))
    alone: list[float] = []
    seconds: dict[tuple[str, int], list[float]] = {(name, n): [] for name, _ in kinds for n in (1, options.workers)}
    for _ in range(options.turns):
        alone.append(singles(store, options.epochs, "32-true"))
        for name, narrow in kinds:
            for count in (1, options.workers):
                job = delayed(in_worker)(place, *data, options.epochs, narrow)
                with Parallel(options.workers, inner_max_num_threads=1, backend="loky") as parallel:
                    seconds[name, count] += [statistics.mean(parallel([job] * count)) / count]
    reference = statistics.median(alone)
    print(f"one after another, float32, {torch.get_num_threads()} threads {reference * 1000:8.1f} ms a run and epoch")
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    for (name, count), median in medians.items():
        print(f"{count} workers, {name:<9}{median * 1000:8.1f} ms a run and epoch, ratio {median / reference:.3f}")
    for name, _ in kinds:
        print(f"1 to {options.workers} workers, {name:<9} {medians[name, 1] / medians[name, options.workers]:.2f} x")


if __name__ == "__main__":
    main()

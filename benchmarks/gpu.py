"""Everything that is to be measured on one GPU, in one go; prints a table for ``docs/performance.md``.

Runs have the size of the fashion study: 4,444 rows of 1,792 columns and 126 classes, kept on the GPU::

    python benchmarks/gpu.py
"""

from __future__ import annotations

import argparse
import time
import warnings

import lightning
import torch
from epoch import make_store
from stack import fit, make_run, singles, stacked

from estitchup_pl.stacking import StackedClassifier, StackedDataModule


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=4444, help="training rows of a run")
    parser.add_argument("--dim", type=int, default=1792)
    parser.add_argument("--classes", type=int, default=126)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=576, help="epochs of the whole study")
    parser.add_argument("--on_cpu", action="store_true", help="try the script where there is no GPU; measures nothing")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if not torch.cuda.is_available() and not options.on_cpu:
        raise SystemExit("there is no GPU here, so there is nothing to measure")
    store = make_store(round(options.rows / 0.9), options.dim, options.classes)
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{name}, torch {torch.__version__}, lightning {lightning.__version__}")
    for precision in ("highest", "high"):
        torch.set_float32_matmul_precision(precision)
        alone = singles(store, epochs=4)
        together = stacked(store, options.runs, epochs=6)
        print(
            f"float32 products {precision}: alone {alone * 1000:.1f} ms a run and epoch, ratio {together / alone:.4f}"
        )
    runs = [make_run(store, position) for position in range(options.runs)]
    start = time.perf_counter()
    fit(StackedClassifier(runs), StackedDataModule(runs), options.epochs, [])
    print(f"{options.runs} runs of {options.epochs} epochs: {time.perf_counter() - start:.1f} s")
    if torch.cuda.is_available():
        print(f"at most {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of GPU memory")


if __name__ == "__main__":
    main()

"""Time and memory of the nearest training rows, beside the matrix products alone.

    python benchmarks/neighbors.py

By default: the 10 nearest of 4,444 training rows (kept as float16, as a checkpoint keeps them) for 40,000 rows of 1,792
columns. The aim is 1.5 times the products of the same blocks in float32.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import psutil
import torch

from estitchup_pl.functional import neighbor_distance, unit_length


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def products(queries: torch.Tensor, bank: torch.Tensor, block: int = 1024) -> None:
    for part in queries.split(block):
        part @ bank.T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--bank", type=int, default=4_444)
    parser.add_argument("--columns", type=int, default=1_792)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    queries = torch.randn(options.rows, options.columns)
    bank = unit_length(torch.randn(options.bank, options.columns))
    kept = bank.half()
    before = psutil.Process().memory_info().rss
    times = []
    for repeat in range(options.repeats + 1):
        pair = seconds(lambda: products(queries, bank)), seconds(lambda: neighbor_distance(queries, kept, options.k))
        if repeat:  # the first one warms up
            times.append(pair)
    growth = (psutil.Process().memory_info().rss - before) / 2**20
    alone, distances = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"{options.k} nearest of {options.bank:,} for {options.rows:,} rows of {options.columns:,} columns")
    print(f"products alone {alone:.2f} s, distances {distances:.2f} s: {distances / alone:.2f} times (aim 1.5)")
    print(
        f"resident memory grew by {growth:.0f} MiB; all cosines at once are {4 * options.rows * options.bank >> 20} MiB"
    )


if __name__ == "__main__":
    main()

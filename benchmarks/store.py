"""Gathering index batches from a store, against a loop over rows and against an array in memory.

Every figure is a ratio of times measured in the same run, for stores of growing numbers of rows (sparse files in a
temporary folder, so that millions of rows need no disk)::

    python benchmarks/store.py --rows 10000 2000000
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from estitchup_pl.store import (
    EmbeddingStore,
    ModalityInfo,
    StoreHeader,
    shard_path,
    write_header,
    write_items,
    write_shard,
)

ROWS_PER_SHARD = 65536


def sparse_store(folder: Path, rows: int, dim: int) -> Path:
    """Write a store whose rows are holes in its files: zeros that take no room."""
    header = StoreHeader(rows, ROWS_PER_SHARD, {"a": ModalityInfo(dim, "float16")})
    for index in range(header.shards):
        start, stop = header.shard_range(index)
        path = shard_path(folder, "a", index)
        write_shard(folder, "a", index, np.empty((0, dim), np.float16))
        with path.open("r+b") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "<f2", "fortran_order": False, "shape": (stop - start, dim)}
            )
            file.truncate(file.tell() + (stop - start) * dim * 2)
    ids = pa.array(np.arange(rows)).cast(pa.string())
    flags = pa.array(np.zeros(rows, bool))
    write_items(folder, pa.table({"id": ids, "label": pa.nulls(rows, pa.string()), "has_a": flags}))
    write_header(folder, header)
    return folder


def loop_over_rows(shards: list[np.ndarray], rows: np.ndarray, dim: int) -> np.ndarray:
    """Copy rows as a map-style data set does: one at a time, then stacked."""
    return np.stack([shards[row // ROWS_PER_SHARD][row % ROWS_PER_SHARD] for row in rows.tolist()])


def microseconds(functions: dict[str, Callable[[np.ndarray], object]], batches: list[np.ndarray]) -> dict[str, float]:
    """Median time of each function for one batch, the functions taking turns."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for batch in batches:
        for name, function in functions.items():
            start = time.perf_counter()
            function(batch)
            times[name].append((time.perf_counter() - start) * 1e6)
    return {name: statistics.median(values[len(values) // 5 :]) for name, values in times.items()}


def measure(folder: Path, rows: int, dim: int, batch: int, batches: int) -> dict[str, float]:
    """Time opening and gathering for one number of rows."""
    path = sparse_store(folder / str(rows), rows, dim)
    opened = []
    for _ in range(50):
        start = time.perf_counter()
        store = EmbeddingStore.open(path)
        opened.append((time.perf_counter() - start) * 1e6)
    shards = [np.load(shard, mmap_mode="r") for shard in sorted((path / "embeddings" / "a").iterdir())]
    for shard in shards:
        shard.max()  # into the page cache, and into this process's page table
    store.gather(np.arange(rows))
    resident = np.ones((rows, dim), np.float16)
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, rows, batch) for _ in range(batches)]
    times = microseconds(
        {
            "gather": store.gather,
            "resident": resident.__getitem__,
            "loop": lambda asked: loop_over_rows(shards, asked, dim),
        },
        draws,
    )
    return {"open": statistics.median(opened), **times}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 200_000, 2_000_000], help="sizes of the stores")
    parser.add_argument("--dim", type=int, default=512, help="columns of float16")
    parser.add_argument("--batch", type=int, default=128, help="rows gathered at a time")
    parser.add_argument("--batches", type=int, default=500, help="gathers timed for each size")
    arguments = parser.parse_args()
    print(f"batches of {arguments.batch} rows of {arguments.dim} float16; times in microseconds (median)")
    columns = ("rows", "open", "gather", "resident", "loop", "gather/resident", "gather/loop")
    print("  ".join(f"{column:>10}" for column in columns))
    results = []
    for rows in sorted(arguments.rows):
        with tempfile.TemporaryDirectory() as folder:
            found = measure(Path(folder), rows, arguments.dim, arguments.batch, arguments.batches)
        results.append(found)
        times = [f"{found[name]:>10.0f}" for name in columns[1:5]]
        ratios = [f"{found['gather'] / found[other]:>{width}.2f}" for other, width in (("resident", 15), ("loop", 11))]
        print("  ".join([f"{rows:>10,}", *times, *ratios]))
    growth = {name: results[-1][name] / results[0][name] for name in results[0]}
    print("largest / smallest: " + ", ".join(f"{name} {ratio:.2f}x" for name, ratio in growth.items()))


if __name__ == "__main__":
    main()

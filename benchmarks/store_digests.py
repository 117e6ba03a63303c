"""What the digests of a store cost: against reading and writing the same bytes without them.

Every figure is a ratio of times measured in one run, the median of several; files are in memory where the system keeps
them there, so the ratios are those of the fastest disk there is::

    python benchmarks/store_digests.py --megabytes 512
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np

from estitchup_pl.store import digest_file, shard_path, write_shard
from estitchup_pl.store import files as store_files

DIM = 1792


class NoDigest:
    """Takes bytes and does nothing."""

    def update(self, content: object) -> None: ...

    def hexdigest(self) -> str:
        return ""


def read_plainly(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def seconds(functions: dict[str, Callable[[], object]], times: int = 7) -> dict[str, float]:
    """Median time of each function, the functions taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(times):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=512)
    rows = parser.parse_args().megabytes * 2**20 // (2 * DIM)
    array = np.random.default_rng(0).integers(0, 2**15, (rows, DIM), dtype=np.int16).view(np.float16)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)

        def write_plainly() -> None:
            with mock.patch.object(store_files.xxhash, "xxh3_128", NoDigest):
                write_shard(folder, "a", 1, array)

        write_shard(folder, "a", 0, array)
        path = shard_path(folder, "a", 0)
        took = seconds(
            {
                "read": lambda: read_plainly(path),
                "read and digest": lambda: digest_file(path),
                "write": write_plainly,
                "write and digest": lambda: write_shard(folder, "a", 1, array),
            }
        )
    size = array.nbytes / 2**30
    print(f"{size:.2f} GiB; read plainly {size / took['read']:.1f} GiB/s, written {size / took['write']:.1f} GiB/s")
    print(f"digesting what is read: {took['read and digest'] / took['read']:.2f} times the time of reading")
    print(f"digesting what is written: {took['write and digest'] / took['write']:.2f} times the time of writing")


if __name__ == "__main__":
    main()

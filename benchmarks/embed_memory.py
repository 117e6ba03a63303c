"""Peak memory of `estitchup embed` for tables of different sizes, each in a process of its own.

    python benchmarks/embed_memory.py --rows 20000 200000

A cheap encoder (256 numbers a text) stands in for a model, so that what is measured is the run around it: staging,
digests, tokens, shards, item table.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from estitchup_pl.embed import Embedder, Modality, embed_items
from estitchup_pl.tables import TableFile


class Bytes(Embedder):
    """Counts of byte values."""

    bucketing = True
    dim = 256

    def embed(self, batch: list[str]) -> torch.Tensor:
        return torch.stack([torch.bincount(torch.tensor(list(text.encode())), minlength=256) for text in batch]).float()


def write_items(path: Path, rows: int) -> None:
    """Write a table a block at a time, so that it is never in memory."""
    random = np.random.default_rng(0)
    letters = "".join(random.choice(list("abcdefgh "), 100))
    with pq.ParquetWriter(path, pa.schema([("id", pa.string()), ("text", pa.string())])) as file:
        for start in range(0, rows, 10_000):
            block = range(start, min(start + 10_000, rows))
            texts = [f"{row} {letters[: 20 + row % 60]}" for row in block]
            file.write_table(pa.table({"id": [str(row) for row in block], "text": texts}))


class Peak(threading.Thread):
    """Watches the process's anonymous memory: what it holds, without the pages of mapped files that it may drop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.first, self.most, self.stopped = self.now(), 0.0, threading.Event()

    def now(self) -> float:
        """MiB, from Linux."""
        return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024

    def run(self) -> None:
        while not self.stopped.wait(0.02):
            self.most = max(self.most, self.now())


def measure(rows: int) -> None:
    """Print rows, peak memory beyond what is there after a run of few rows, and seconds."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder, mock.patch("estitchup_pl.embed.loop.tqdm"):
        for name, count in (("warm up", 5_000), ("measured", rows)):
            items = Path(folder, f"{name}.parquet")
            write_items(items, count)
            peak, started = Peak(), time.perf_counter()
            peak.start()
            modality = Modality("text", Bytes(), batch_size=256)
            embed_items(Path(folder, name), TableFile(items), {"text": modality}, devices=1)
            seconds = time.perf_counter() - started
            peak.stopped.set()
    print(f"{rows:>10}{peak.most - peak.first:>24.0f}{rows / seconds:>12.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 200_000])
    options = parser.parse_args()
    if len(options.rows) == 1:
        measure(options.rows[0])
        return
    print(f"{'rows':>10}{'MiB beyond 5000 rows':>24}{'rows/s':>12}", flush=True)
    for rows in options.rows:
        subprocess.run([sys.executable, __file__, "--rows", str(rows)], check=True)


if __name__ == "__main__":
    main()

"""Time of a training step, and peak memory, as the mapped rows of a store grow.

Each size trains in a process of its own for a fixed number of steps with ``cache="off"``, on a store whose embeddings
are holes in sparse files::

    python benchmarks/rows.py --rows 10000 10000000
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pyarrow as pa
from store import sparse_store

from estitchup_pl import EmbeddingClassifier, EmbeddingDataModule
from estitchup_pl.callbacks import EStitchup
from estitchup_pl.data.splits import TrialSplit
from estitchup_pl.store import write_items

CLASSES = 100


class StepClock(pl.Callback):
    """Notes the seconds of each step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: object) -> None:
        self.ends.append(time.perf_counter())

    @property
    def median(self) -> float:
        return statistics.median(np.diff(self.ends)[len(self.ends) // 5 :])


def make_store(folder: Path, rows: int, dim: int) -> Path:
    """Write a sparse store with labels."""
    sparse_store(folder, rows, dim)
    labels = pa.DictionaryArray.from_arrays(
        pa.array(np.arange(rows) % CLASSES), pa.array([f"class-{code}" for code in range(CLASSES)])
    )
    ids = pa.array(np.arange(rows)).cast(pa.string())
    write_items(
        folder, pa.table({"id": ids, "label": labels.cast(pa.string()), "has_a": pa.array(np.ones(rows, bool))})
    )
    return folder


def train(store: Path, steps: int) -> dict[str, float]:
    """Train for some steps in this process."""
    warnings.simplefilter("ignore")
    clock = StepClock()
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        callbacks=[EStitchup(), clock],
        logger=False,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(EmbeddingClassifier(), EmbeddingDataModule(store, TrialSplit(train_fraction=0.9), cache="off"))
    return {"step": clock.median, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 10_000_000])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(train(options.child, options.steps)))
        return
    found: dict[int, list[dict[str, float]]] = {rows: [] for rows in options.rows}
    with tempfile.TemporaryDirectory() as folder:
        stores = {rows: make_store(Path(folder) / str(rows), rows, options.dim) for rows in options.rows}
        for _ in range(options.turns):
            for rows, store in stores.items():
                command = [sys.executable, __file__, "--child", str(store), "--steps", str(options.steps)]
                output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                found[rows].append(json.loads(output.splitlines()[-1]))
    medians = {
        rows: {key: statistics.median(one[key] for one in runs) for key in runs[0]} for rows, runs in found.items()
    }
    for rows, values in medians.items():
        print(f"{rows:>12,} rows  {values['step'] * 1000:7.2f} ms a step  {values['mib']:8.0f} MiB at most")
    first, last = medians[min(medians)], medians[max(medians)]
    growth = (last["mib"] - first["mib"]) * 2**20 / (max(medians) - min(medians))
    print(f"time of a step {last['step'] / first['step']:.2f}x; memory +{growth:.0f} bytes a row")


if __name__ == "__main__":
    main()

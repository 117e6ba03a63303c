"""A run of `estitchup embed` with a clock on its parts, shared by the benchmarks of embedding."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import lightning.fabric  # noqa: F401  # before the clock starts
import pyarrow as pa
import pyarrow.parquet as pq

from estitchup_pl.embed import Modality, embed_items, loop
from estitchup_pl.tables import TableFile


class Clock:
    """Sums the seconds spent in functions, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

        return call


def timed_run(folder: Path, values: list[Any], modality: Modality, **options: Any) -> tuple[float, dict[str, float]]:
    """Embed ``values`` to ``folder/store``; seconds in all, and of the parts that are not the encoder's.

    The embedder must be loaded, and Lightning imported; both are left out of the time, all else is in it.
    """
    pq.write_table(
        pa.table({"id": [str(row) for row in range(len(values))], "value": values}), folder / "items.parquet"
    )
    embedder, clock = modality.embedder, Clock()
    with (
        warnings.catch_warnings(),
        mock.patch.object(embedder, "load"),
        mock.patch.object(embedder, "embed", clock("encoder", embedder.embed)),
        mock.patch.object(loop, "begin", clock("start", loop.begin)),
        mock.patch.object(loop, "_shard", clock("gather", loop._shard)),
        mock.patch.object(loop, "write_shard", clock("write", loop.write_shard)),
        mock.patch.object(loop, "finish", clock("finish", loop.finish)),
        mock.patch.object(loop, "tqdm"),
    ):
        warnings.simplefilter("ignore")
        started = time.perf_counter()
        embed_items(folder / "store", TableFile(folder / "items.parquet"), {"value": modality}, devices=1, **options)
        seconds = time.perf_counter() - started
    clock.seconds["other"] = seconds - sum(clock.seconds.values())
    return seconds, clock.seconds


def shares(seconds: float, parts: dict[str, float]) -> str:
    """How the time divides: waiting for input and the loop itself are in ``other``."""
    return ", ".join(f"{name} {100 * part / seconds:.1f} %" for name, part in parts.items())

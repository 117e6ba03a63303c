"""Small encoders and tables for the tests of embedding, importable from other processes too."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from estitchup_pl.embed import Embedder, Modality, embed_items
from estitchup_pl.tables import TableFile

LETTERS = "abcdefgh"


class Letters(Embedder):
    """Counts of letters, sent through a fixed matrix. Rounds differently in batches of another make-up.

    Args:
        gain: Factor on the weights.
        seconds: How long a batch takes.
        log: File to which every embedded text is appended.
        bucketed: Sort by length, a shard at a time.
    """

    bucketing = True

    def __init__(self, gain: float = 1.0, seconds: float = 0.0, log: str | None = None) -> None:
        super().__init__()
        self.gain = gain
        self._seconds = seconds
        self._log = log

    def load(self) -> None:
        weights = torch.arange(1.0, 6 * len(LETTERS) + 1).reshape(6, len(LETTERS)) / 7
        self.matrix = nn.Linear(len(LETTERS), 6)
        self.matrix.weight = nn.Parameter(self.gain * weights)
        self.matrix.bias = nn.Parameter(torch.ones(6) / 3)

    @property
    def dim(self) -> int:
        return 6

    def prepare(self, value: Any) -> Any:
        if value == "broken":
            raise ValueError("cannot be read")
        return None if value == "nothing" else value

    def embed(self, batch: list[str]) -> Tensor:
        if self._log is not None:
            with open(self._log, "ab", buffering=0) as file:
                file.write("".join(f"{text}\n" for text in batch).encode())
        time.sleep(self._seconds)
        counts = torch.tensor([[text.count(letter) for letter in LETTERS] for text in batch], dtype=torch.float32)
        if "nan" in batch:
            counts[batch.index("nan")] = torch.nan
        return self.matrix(counts.to(self.matrix.weight))


class Streamed(Letters):
    """The same, a batch at a time."""

    bucketing = False


def expected(texts: list[str | None], gain: float = 1.0) -> np.ndarray:
    """What :class:`Letters` gives, one text at a time; zeros for nothing."""
    embedder = Letters(gain)
    embedder.load()
    with torch.inference_mode():
        rows = [embedder.embed([text])[0] if text else torch.zeros(6) for text in texts]
    return torch.stack(rows).numpy()


def words(count: int, seed: int = 0) -> list[str]:
    """Distinct texts of many lengths."""
    random = np.random.default_rng(seed)
    return [f"{row} " + "".join(random.choice(list(LETTERS), size=random.integers(1, 40))) for row in range(count)]


def write_table(path: Path, columns: Mapping[str, Any]) -> TableFile:
    """Write a parquet file and return its reader."""
    pq.write_table(pa.table(dict(columns)), path)
    return TableFile(path)


embed_on_cpu = partial(embed_items, accelerator="cpu", devices=1)


def run_letters(
    folder: str, log: str | None = None, seconds: float = 0.0, ranks: tuple[int, int, int] | None = None
) -> None:
    """Embed ``items.parquet`` in ``folder`` to ``folder/store``; the body of a process that gets killed.

    Args:
        folder: Where the table is.
        log: File to which every embedded text is appended.
        seconds: How long a batch takes.
        ranks: Rank of this process, number of processes, and the port at which they meet.
    """
    several: dict[str, Any] = {}
    if ranks is not None:
        rank, count, port = map(str, ranks)
        os.environ |= {"LOCAL_RANK": rank, "NODE_RANK": "0", "WORLD_SIZE": count}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        several = {"devices": int(count), "strategy": "ddp"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        embed_on_cpu(
            Path(folder, "store"),
            TableFile(Path(folder, "items.parquet")),
            {
                "title": Modality("title", Letters(log=log, seconds=seconds), batch_size=8, dtype="float32"),
                "note": Modality("note", Streamed(log=log, seconds=seconds), batch_size=8),
            },
            **several,
            rows_per_shard=32,
            on_error="missing",
        )


def files(folder: Path) -> dict[str, bytes]:
    """Content of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

"""A small store and what it was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

ROWS = 10


def small_table(rows: int = ROWS, **columns) -> pa.Table:
    labels = [None if row % 5 == 4 else f"class-{row % 3}" for row in range(rows)]
    return pa.table({"id": [f"item-{row}" for row in range(rows)], "label": labels, **columns})


def small_embeddings(rows: int = ROWS, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "title": rng.normal(size=(rows, 3)).astype(np.float16),
        "image": rng.normal(size=(rows, 5)).astype(np.float32),
    }


def file_names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

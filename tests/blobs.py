"""A small store that behaves like embeddings: one Gaussian blob a class, in two modalities."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from estitchup_pl.store import EmbeddingStore

CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox")


def blobs_store(
    rows: int = 240, unlabelled: int = 10, seed: int = 0, dtype: str = "float32", dims: tuple[int, int] = (7, 5)
) -> EmbeddingStore:
    """Make ``rows`` labelled rows over six classes, and as many unlabelled ones as asked for, at the end."""
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, len(CLASSES), rows + unlabelled)
    embeddings = {
        name: (generator.normal(0, 2, (len(CLASSES), dim))[codes] + generator.normal(0, 1, (len(codes), dim))).astype(
            dtype
        )
        for name, dim in zip(("title", "image"), dims, strict=True)
    }
    labels = [CLASSES[code] for code in codes[:rows]] + [None] * unlabelled
    items = pa.table({"id": [f"item-{row}" for row in range(len(codes))], "label": pa.array(labels, pa.string())})
    return EmbeddingStore.from_arrays(items, embeddings)

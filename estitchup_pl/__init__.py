"""Calibrated classifiers on precomputed multimodal embeddings (E-Stitchup for PyTorch Lightning).

The public names are imported on first use, so that ``import estitchup_pl`` and ``estitchup --help`` cost nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from estitchup_pl.batch import NONE, EmbeddingBatch
    from estitchup_pl.data import EmbeddingDataModule
    from estitchup_pl.model import EmbeddingClassifier, EmbeddingMLP
    from estitchup_pl.store import EmbeddingStore
    from estitchup_pl.training import train

__version__ = "0.1.0"
__all__ = [
    "NONE",
    "EmbeddingBatch",
    "EmbeddingClassifier",
    "EmbeddingDataModule",
    "EmbeddingMLP",
    "EmbeddingStore",
    "__version__",
    "train",
]

_PLACES = {
    "NONE": "batch",
    "EmbeddingBatch": "batch",
    "EmbeddingClassifier": "model",
    "EmbeddingDataModule": "data",
    "EmbeddingMLP": "model",
    "EmbeddingStore": "store",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Short fits on the blobs, for the tests of whatever takes part in one."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy.typing as npt
import torch
from blobs import blobs_store
from torch import Tensor

from estitchup_pl import EmbeddingClassifier, EmbeddingDataModule, EmbeddingMLP
from estitchup_pl.data.splits import TrialSplit
from estitchup_pl.store import EmbeddingStore

SMALL = partial(EmbeddingMLP, hidden=(16,))


def trainer(folder: Path | str, epochs: int = 2, **options: Any) -> pl.Trainer:
    """Make a quiet trainer on the CPU."""
    defaults = {
        "max_epochs": epochs,
        "accelerator": "cpu",
        "devices": 1,
        "default_root_dir": folder,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return pl.Trainer(**{**defaults, **options})


def data(**options: Any) -> EmbeddingDataModule:
    """Make a data module over the blobs, half of whose rows train and whose foxes are unknown."""
    split = TrialSplit(train_fraction=0.5, unknown_classes=("fox",))
    return EmbeddingDataModule(**{"store": blobs_store(), "split": split, "batch_size": 32, **options})


def classifier(**options: Any) -> EmbeddingClassifier:
    """Make a small classifier."""
    return EmbeddingClassifier(**{"network": SMALL, **options})


def by_name(store: EmbeddingStore, rows: npt.ArrayLike) -> dict[str, npt.NDArray[Any]]:
    """Gather embeddings as a classifier takes them."""
    return {name: store.gather(rows, [name]) for name in store.modalities}


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    """Copy the weights of a model."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}

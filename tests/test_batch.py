"""What a batch promises to callbacks."""

from __future__ import annotations

import torch
from lightning.fabric.utilities import move_data_to_device

from estitchup_pl.batch import NONE, EmbeddingBatch


def batch() -> EmbeddingBatch:
    return EmbeddingBatch(torch.ones(2, 3), torch.eye(2), torch.tensor([0, NONE]), torch.tensor([7, 8]))


def test_lightning_moves_a_copy_so_that_rebinding_never_reaches_the_loader() -> None:
    kept = batch()
    moved = move_data_to_device(kept, torch.device("cpu"))
    moved.embeddings = moved.embeddings * 2
    assert torch.equal(kept.embeddings, torch.ones(2, 3))
    assert not hasattr(kept, "to")


def test_lightning_moves_every_field() -> None:
    moved = move_data_to_device(batch(), torch.device("meta"))
    assert {getattr(moved, name).device.type for name in ("embeddings", "targets", "labels", "rows")} == {"meta"}

"""What a checkpoint says about the rows that trained it, so that nobody tests on them unawares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class TrainedOn:
    """The training rows of a model, and how they were chosen.

    Attributes:
        split: The split of the last fit: ``class_path``, and ``init_args`` where they are plain values, else ``None``.
        digests: 64-bit digest of each training item's id, int64 ``(rows,)``, of all fits that led to the weights.
    """

    split: Mapping[str, Any]
    digests: Tensor

    def after(self, earlier: TrainedOn | None) -> TrainedOn:
        """Add the rows of a fit that this one went on from."""
        if earlier is None:
            return self
        return TrainedOn(self.split, torch.unique(torch.cat([self.digests, earlier.digests])))

"""Scaling of each modality, before anything else sees the embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Scaling = Literal["none", "l2", "standardize"]
SCALINGS: tuple[Scaling, ...] = ("none", "l2", "standardize")


class ModalityScaling(nn.Module):
    """Scales each modality's share of the concatenated embeddings before anything else sees them.

    ``none`` leaves it, ``l2`` scales each row to length one, ``standardize`` subtracts the mean and divides by
    the standard deviation of the training rows. A missing modality (all zeros) stays all zeros, which under
    ``standardize`` is the mean.

    Args:
        modalities: Width of each modality, in the order of their concatenation.
        kinds: Scaling of each modality, ``none`` where it is not named.

    Shape:
        ``(*stack, batch, dim)`` to the same.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, modalities: Mapping[str, int], kinds: Mapping[str, Scaling]) -> None:
        super().__init__()
        self.modalities = dict(modalities)
        self.kinds: dict[str, Scaling] = {name: kinds.get(name, "none") for name in modalities}
        width = sum(modalities.values()) if "standardize" in self.kinds.values() else 0
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Scale ``(*stack, batch, dim)``; the input is never written to."""
        if all(kind == "none" for kind in self.kinds.values()):
            return x
        parts, start = [], 0
        for name, part in zip(self.kinds, torch.split(x, list(self.modalities.values()), dim=-1), strict=True):
            stop = start + part.shape[-1]
            if self.kinds[name] == "l2":
                part = F.normalize(part, dim=-1)
            elif self.kinds[name] == "standardize":
                present = part.any(dim=-1, keepdim=True)
                part = (part - self.mean[..., start:stop]) / self.std[..., start:stop] * present
            parts.append(part)
            start = stop
        return torch.cat(parts, dim=-1)

    def extra_repr(self) -> str:
        """Show each modality's width and scaling."""
        return ", ".join(f"{name}({dim})={self.kinds[name]}" for name, dim in self.modalities.items())

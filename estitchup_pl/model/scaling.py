"""Scaling of each modality, before anything else sees the embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from estitchup_pl.errors import ConfigError, did_you_mean

Scaling = Literal["none", "l2", "standardize", "centered_l2"]
SCALINGS: tuple[Scaling, ...] = ("none", "l2", "standardize", "centered_l2")
LEARNT: tuple[Scaling, ...] = ("standardize", "centered_l2")
"""Scalings that are learnt from training rows."""
UNIT_LENGTH: tuple[Scaling, ...] = ("l2", "centered_l2")
"""Scalings that end with rows of length one."""

Moments = Callable[[str], tuple[Tensor, Tensor]]
"""Mean and standard deviation ``(dim,)`` of a modality, by its name, over the training rows that have it."""


class ModalityScaling(nn.Module):
    """Scales each modality's share of the concatenated embeddings before anything else sees them.

    ``none`` leaves it, ``l2`` scales each row to length one, ``standardize`` subtracts the mean and divides by
    the standard deviation of the training rows, ``centered_l2`` subtracts their mean and then scales to length one.
    A missing modality (all zeros) stays all zeros, which is the mean where one is subtracted.

    Args:
        modalities: Width of each modality, in the order of their concatenation.
        scaling: Scaling of all modalities, or by name, ``none`` where a modality is not named.

    Shape:
        ``(rows, dim)`` to the same.

    Raises:
        ConfigError: If a scaling or a modality does not exist.

    Example:
        >>> scale = ModalityScaling({"title": 2, "image": 1}, {"title": "l2", "image": "standardize"})
        >>> scale.fit(lambda name: (torch.tensor([5.0]), torch.tensor([2.0])))
        >>> scale(torch.tensor([[3.0, 4.0, 9.0]]))
        tensor([[0.6000, 0.8000, 2.0000]])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, modalities: Mapping[str, int], scaling: Scaling | Mapping[str, Scaling] = "none") -> None:
        super().__init__()
        check_scaling(scaling)
        by_name = dict.fromkeys(modalities, scaling) if isinstance(scaling, str) else scaling
        for name in by_name:
            if name not in modalities:
                hint = did_you_mean(name, modalities)
                raise ConfigError(f"scaling: unknown modality {name!r}, expected one of {list(modalities)}{hint}")
        self.modalities = dict(modalities)
        self.kinds: dict[str, Scaling] = {name: by_name.get(name, "none") for name in modalities}
        width = sum(modalities.values()) if self._learnt() else 0
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        for start, stop in self._learnt().values():
            self.mean[start:stop] = torch.nan  # known once they are fitted, or read from a checkpoint

    @property
    def is_fitted(self) -> bool:
        """Whether nothing is left to be learnt from training rows."""
        return not bool(self.mean.isnan().any())

    def fit(self, moments: Moments) -> None:
        """Take the means of the modalities whose scaling is learnt, and the deviations of those standardized."""
        for name, (start, stop) in self._learnt().items():
            self.mean[start:stop], std = moments(name)
            if self.kinds[name] == "standardize":
                self.std[start:stop] = std

    @override
    def forward(self, x: Tensor) -> Tensor:
        if all(kind == "none" for kind in self.kinds.values()):
            return x
        parts, start = [], 0
        for name, part in zip(self.kinds, torch.split(x, list(self.modalities.values()), dim=-1), strict=True):
            stop = start + part.shape[-1]
            if self.kinds[name] in LEARNT:
                present = part.any(dim=-1, keepdim=True)
                part = (part - self.mean[..., start:stop]) / self.std[..., start:stop] * present
            parts.append(F.normalize(part, dim=-1) if self.kinds[name] in UNIT_LENGTH else part)
            start = stop
        return torch.cat(parts, dim=-1)

    @override
    def extra_repr(self) -> str:
        return ", ".join(f"{name}({dim})={self.kinds[name]}" for name, dim in self.modalities.items())

    def _learnt(self) -> dict[str, tuple[int, int]]:
        """First column of each modality whose scaling is learnt, and the one after its last."""
        spans, stop = {}, 0
        for name, dim in self.modalities.items():
            start, stop = stop, stop + dim
            if self.kinds[name] in LEARNT:
                spans[name] = start, stop
        return spans


def check_scaling(scaling: Scaling | Mapping[str, Scaling]) -> None:
    """Raise :class:`ConfigError` for a scaling that does not exist."""
    for kind in [scaling] if isinstance(scaling, str) else scaling.values():
        if kind not in SCALINGS:
            raise ConfigError(
                f"scaling must be one of {', '.join(SCALINGS)}, got {kind!r}{did_you_mean(kind, SCALINGS)}"
            )

"""Modules that learn buffers of sizes which they do not know before they have seen rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from estitchup_pl.errors import ConfigError, DataError


class Learnt(nn.Module):
    """Keeps what it learns in buffers, which are empty until then and take the sizes of a state that is loaded.

    Each constructor argument is kept as an attribute of the same name.
    """

    def declare(self, *names: str) -> None:
        """Register buffers that have learnt nothing yet."""
        for name in names:
            self.register_buffer(name, torch.empty(0, dtype=torch.float64))

    @property
    def is_fitted(self) -> bool:
        """Whether every buffer, of parts too, holds something."""
        return all(buffer.numel() for buffer in self.buffers())

    def check_fitted(self) -> None:
        """Raise :class:`~estitchup_pl.errors.ConfigError` where something is still to be learnt."""
        if not self.is_fitted:
            raise ConfigError(f"{type(self).__name__} has learnt nothing yet: fit it, or load it from a checkpoint")

    @override
    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        for name, buffer in list(self.named_buffers(recurse=False)):
            kept = state_dict.get(prefix + name, buffer)
            setattr(self, name, torch.empty_like(kept, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args)


def check_rows(embeddings: Tensor, labels: Tensor) -> None:
    """Refuse embeddings and class indices that do not fit together.

    Raises:
        DataError: If there are no rows, or shapes are not ``(rows, dim)`` and ``(rows,)``.
    """
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1] or not len(labels):
        raise DataError(
            "expected embeddings (rows, dim) and labels (rows,) of at least one row, got "
            f"{(*embeddings.shape,)} and {(*labels.shape,)}"
        )

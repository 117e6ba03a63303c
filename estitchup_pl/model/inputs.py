"""Embeddings as people hand them over, side by side as the network takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from estitchup_pl.errors import DataError, did_you_mean

Embeddings = Tensor | npt.NDArray[Any]
"""Embeddings of one modality, ``(rows, dim)``."""


def side_by_side(embeddings: Embeddings | Mapping[str, Embeddings], modalities: Mapping[str, int]) -> Tensor:
    """Join the modalities of items in the order of ``modalities``, float32 ``(rows, sum of dims)``.

    Args:
        embeddings: ``(rows, dim)`` of each modality by its name; of a single modality also without the name.
        modalities: Width of each modality.

    Raises:
        DataError: If a modality is missing, unknown, unnamed among several, or of another shape or type.

    Example:
        >>> side_by_side({"image": np.zeros((1, 2)), "title": np.ones((1, 1))}, {"title": 1, "image": 2})
        tensor([[1., 0., 0.]])
    """
    if not isinstance(embeddings, Mapping):
        if len(modalities) != 1:
            expected = ", ".join(f"{name!r}: (rows, {dim})" for name, dim in modalities.items())
            raise DataError(
                f"this model has {len(modalities)} modalities, which are given by name, {{{expected}}}; "
                f"got one array of shape {tuple(np.shape(embeddings))}"
            )
        embeddings = dict.fromkeys(modalities, embeddings)
    for name in embeddings:
        if name not in modalities:
            raise DataError(
                f"the model has no modality {name!r}, only {list(modalities)}{did_you_mean(name, modalities)}"
            )
    if missing := [name for name in modalities if name not in embeddings]:
        raise DataError(f"no embeddings of the modality {missing[0]!r}; rows of zeros stand for items that lack it")
    parts = [_checked(name, embeddings[name], dim) for name, dim in modalities.items()]
    if len({len(part) for part in parts}) > 1:
        counts = ", ".join(f"{name!r} has {len(part)}" for name, part in zip(modalities, parts, strict=True))
        raise DataError(f"expected as many rows of each modality: {counts}")
    return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]


def _checked(name: str, values: Embeddings, dim: int) -> Tensor:
    if not isinstance(values, Tensor):
        try:
            array = np.asarray(values)
        except ValueError as error:
            raise DataError(f"modality {name!r}: expected an array (rows, {dim}), got what is none ({error})") from None
        if array.dtype.kind not in "fiu":
            raise DataError(f"modality {name!r}: expected numbers, got {array.dtype}")
        values = torch.from_numpy(array.astype(np.float32))
    if values.is_complex() or values.dtype == torch.bool:
        raise DataError(f"modality {name!r}: expected numbers, got {values.dtype}")
    if values.ndim != 2 or values.shape[-1] != dim:
        raise DataError(f"modality {name!r}: expected (rows, {dim}), got {tuple(values.shape)}")
    return values.float()

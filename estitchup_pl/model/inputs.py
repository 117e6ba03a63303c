"""Embeddings as people hand them over, side by side as the network takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from estitchup_pl.errors import ConfigError, DataError, did_you_mean

Embeddings = Tensor | npt.NDArray[Any]
"""Embeddings of one modality, ``(rows, dim)``."""


def side_by_side(embeddings: Embeddings | Mapping[str, Embeddings], modalities: Mapping[str, int]) -> Tensor:
    """Join the modalities of items in the order of ``modalities``, float32 ``(rows, sum of dims)``.

    Args:
        embeddings: ``(rows, dim)`` of each modality by its name; of a single modality also without the name.
        modalities: Width of each modality.

    Raises:
        DataError: If a modality is missing, unknown, unnamed among several, of another shape or type, or holds a
            number that is not finite.

    Example:
        >>> side_by_side({"image": np.zeros((1, 2)), "title": np.ones((1, 1))}, {"title": 1, "image": 2})
        tensor([[1., 0., 0.]])
    """
    return _joined(_by_modality(embeddings, modalities), slice(0, None))


def in_batches(
    embeddings: Embeddings | Mapping[str, Embeddings], modalities: Mapping[str, int], batch_size: int
) -> Iterator[Tensor]:
    """Join the modalities some rows at a time; at least one batch, which may be empty.

    Args:
        embeddings: As for :func:`side_by_side`, which raises what this raises; arrays may be mapped from files.
        modalities: Width of each modality.
        batch_size: Rows of a batch at most, at least 1.

    Raises:
        ConfigError: If ``batch_size`` is below 1.

    Example:
        >>> [len(batch) for batch in in_batches(np.zeros((5, 2)), {"photo": 2}, 3)]
        [3, 2]
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size: expected at least 1, got {batch_size}")
    parts = _by_modality(embeddings, modalities)
    rows = len(next(iter(parts.values())))
    for start in range(0, max(rows, 1), batch_size):
        yield _joined(parts, slice(start, start + batch_size))


def _by_modality(
    embeddings: Embeddings | Mapping[str, Embeddings], modalities: Mapping[str, int]
) -> dict[str, Embeddings]:
    """Each modality's rows, in the order of the modalities, once it is sure that they fit."""
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
    parts = {name: _checked(name, embeddings[name], dim) for name, dim in modalities.items()}
    if len({len(part) for part in parts.values()}) > 1:
        counts = ", ".join(f"{name!r} has {len(part)}" for name, part in parts.items())
        raise DataError(f"expected as many rows of each modality: {counts}")
    return parts


def _checked(name: str, values: Embeddings, dim: int) -> Embeddings:
    if not isinstance(values, Tensor):
        try:
            values = np.asarray(values)
        except ValueError as error:
            raise DataError(f"modality {name!r}: expected an array (rows, {dim}), got what is none ({error})") from None
    if not _holds_numbers(values):
        raise DataError(f"modality {name!r}: expected numbers, got {values.dtype}")
    if values.ndim != 2 or values.shape[-1] != dim:
        raise DataError(f"modality {name!r}: expected (rows, {dim}), got {tuple(values.shape)}")
    return values


def _holds_numbers(values: Embeddings) -> bool:
    if isinstance(values, Tensor):
        return not (values.is_complex() or values.dtype == torch.bool)
    return values.dtype.kind in "fiu"


def _joined(parts: Mapping[str, Embeddings], rows: slice) -> Tensor:
    """Some rows as float32 side by side; every number in them is finite."""
    found = []
    for name, values in parts.items():
        part = _float32(values[rows])
        finite = part.isfinite()
        if not bool(finite.all()):
            row = rows.start + int((~finite).nonzero()[0, 0])
            raise DataError(
                f"modality {name!r}, row {row}: a number is not finite, or too large for float32; rows of zeros stand "
                "for items that lack a modality"
            )
        found.append(part)
    return torch.cat(found, dim=-1) if len(found) > 1 else found[0]


def _float32(values: Embeddings) -> Tensor:
    if isinstance(values, Tensor):
        return values.float()
    with np.errstate(over="ignore"):  # what becomes infinite is told with its row
        return torch.from_numpy(values.astype(np.float32))

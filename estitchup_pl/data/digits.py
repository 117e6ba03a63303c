"""A small real data set that needs no file and no network: scikit-learn's handwritten digits.

The 1797 pictures of 8 x 8 pixels give two modalities that see different things, as a title and a photo do:
``pixels`` says where the ink is, ``gradients`` which way its edges run.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from estitchup_pl.store import EmbeddingStore, ModalityInfo

CLASSES: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

UNKNOWN_CLASSES: Final[tuple[str, str]] = ("eight", "nine")
"""Classes to hold out as "none"."""

_DIRECTIONS: Final = 8
_WINDOWS: Final = ((0, 4), (2, 6), (4, 8))
"""First row (or column) of each window of the picture, and the one after its last; they overlap."""


def digits_store() -> EmbeddingStore:
    """Build the store, in memory: ids ``digit-0000`` to ``digit-1796``, labels ``"zero"`` to ``"nine"``.

    The column ``known`` is false for the classes in :data:`UNKNOWN_CLASSES`.

    Example:
        >>> store = digits_store()
        >>> len(store), {name: info.dim for name, info in store.modalities.items()}
        (1797, {'pixels': 64, 'gradients': 72})
    """
    from sklearn.datasets import load_digits  # slow to import, and only this data set needs it

    pictures, digits = load_digits(return_X_y=True)
    ink = pictures.reshape(-1, 8, 8) / 16
    labels = np.array(CLASSES)[digits]
    items = pa.table(
        {
            "id": [f"digit-{row:04d}" for row in range(len(labels))],
            "label": labels,
            "known": ~np.isin(labels, UNKNOWN_CLASSES),
        }
    )
    embeddings = {"pixels": ink.reshape(len(ink), -1), "gradients": gradient_histograms(ink)}
    info = {
        "pixels": ModalityInfo(64, encoder="ink of each pixel"),
        "gradients": ModalityInfo(_DIRECTIONS * len(_WINDOWS) ** 2, encoder="histograms of oriented gradients"),
    }
    return EmbeddingStore.from_arrays(items, {name: rows.astype(np.float32) for name, rows in embeddings.items()}, info)


def gradient_histograms(pictures: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Describe pictures ``(count, 8, 8)`` by the directions of their edges, as unit vectors ``(count, 72)``.

    In each of nine overlapping windows of 4 x 4 pixels, the strength of the gradients is summed by direction, in
    eight directions around the circle; a gradient between two directions counts for both, by nearness.
    """
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1)), mode="edge")
    right = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    down = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    angle = np.arctan2(down, right) / (2 * np.pi) * _DIRECTIONS
    distance = np.abs((angle[..., None] - np.arange(_DIRECTIONS) + _DIRECTIONS / 2) % _DIRECTIONS - _DIRECTIONS / 2)
    strength = np.hypot(right, down)[..., None] * np.maximum(1 - distance, 0)
    sums = [strength[:, top:bottom, left:end].sum((1, 2)) for top, bottom in _WINDOWS for left, end in _WINDOWS]
    histograms = np.concatenate(sums, axis=1)
    units: npt.NDArray[Any] = histograms / np.linalg.norm(histograms, axis=1, keepdims=True)
    return units

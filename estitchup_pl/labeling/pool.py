"""The items that may be labelled next, with what a model says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from estitchup_pl.errors import DataError
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.inputs import side_by_side
from estitchup_pl.store import EmbeddingStore, name_hint
from estitchup_pl.store.labels import Rows, StoreLabels

ROWS_AT_ONCE: Final = 4096
"""Rows that are read and predicted at once."""


@dataclass(frozen=True)
class Pool:
    """Unlabelled items and a model's decisions on them; what a strategy orders.

    Attributes:
        rows: Rows of the store, int64 ``(rows,)``.
        embeddings: As the network sees them, float32 ``(rows, dim)``.
        probabilities: Float ``(rows, classes)`` in ``[0, 1]``.
        none_scores: In ``[0, 1]``, high where an item is likely "none", ``(rows,)``.
        predicted: Class index or ``NONE``, int64 ``(rows,)``.
        labelled: Embeddings of the items that have a label ``(labelled rows, dim)``.
        members: Logits of each member of an ensemble ``(members, rows, classes)``, where there is one.
    """

    rows: Tensor
    embeddings: Tensor
    probabilities: Tensor
    none_scores: Tensor
    predicted: Tensor
    labelled: Tensor
    members: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of_store(cls, model: EmbeddingClassifier, store: EmbeddingStore) -> Pool:
        """Take the unlabelled items of a store, and what a fitted model decides on them.

        Args:
            model: The model, in evaluation mode.
            store: The store; it has the model's modalities.

        Raises:
            DataError: If the store lacks a modality of the model, or has no unlabelled item.
        """
        labels = StoreLabels.read(store)
        if not labels.unlabelled.size:
            raise DataError("every item of the store has a label already, so nothing is left to ask for")
        return cls.of_rows(model, store, labels.unlabelled, labels.labelled)

    @classmethod
    @torch.inference_mode()
    def of_rows(cls, model: EmbeddingClassifier, store: EmbeddingStore, rows: Rows, labelled: Rows) -> Pool:
        """Take rows of a store, and what a fitted model decides on them.

        Args:
            model: The model, in evaluation mode.
            store: The store; it has the model's modalities.
            rows: Rows that may be asked for, at least one.
            labelled: Rows whose labels are known.

        Raises:
            DataError: If the store lacks a modality of the model.
        """
        embeddings, decided, members = scaled(model, store, rows), [], []
        for part in torch.split(embeddings, ROWS_AT_ONCE):
            logits = model.outputs(part)
            decided.append(model.decision(part, logits))
            members.append(logits)
        probabilities, none_scores, predicted = (torch.cat(column) for column in zip(*decided, strict=True))
        of_each = torch.cat(members, dim=1) if members[0].ndim == 3 else None
        known = scaled(model, store, labelled)
        return cls(torch.from_numpy(rows), embeddings, probabilities, none_scores, predicted, known, of_each)


@torch.inference_mode()
def scaled(model: EmbeddingClassifier, store: EmbeddingStore, rows: Rows) -> Tensor:
    """Embeddings of some rows as the network of a model sees them, float32 ``(rows, dim)``.

    Raises:
        DataError: If the store lacks a modality of the model.
    """
    for name in model.modalities:
        if name not in store.modalities:
            raise DataError(f"the store has no modality {name!r} of the model{name_hint(name, store.modalities)}")
    parts = [model.scale(side_by_side(part, model.modalities)) for part in gathered(model, store, rows)]
    return torch.cat(parts) if parts else torch.empty(0, sum(model.modalities.values()))


def gathered(model: EmbeddingClassifier, store: EmbeddingStore, rows: Rows) -> Iterator[Mapping[str, npt.NDArray[Any]]]:
    """Embeddings of the model's modalities as the store has them, by name, some rows at a time."""
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = np.asarray(rows[start : start + ROWS_AT_ONCE])
        yield {name: store.gather(part, [name]) for name in model.modalities}

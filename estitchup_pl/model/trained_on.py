"""What a checkpoint says about the rows that trained it, so that nobody tests on them unawares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

Encoders = Mapping[str, Mapping[str, str | None]]
"""What made the embeddings of each modality: ``encoder``, ``pooling`` (with layers) and ``revision``, where known."""


@dataclass(frozen=True)
class TrainedOn:
    """The training rows of a model, and how they were chosen.

    Attributes:
        split: The split of the last fit: ``class_path``, and ``init_args`` where they are plain values, else ``None``.
        digests: 64-bit digest of each training item's id, int64 ``(rows,)``, of all fits that led to the weights.
        encoders: What made the embeddings, as the store of the first fit says.
        recipes: How new items are embedded in the same way, for modalities of which it is known: see
            :class:`~estitchup_pl.store.ModalityInfo`.
        store: Digest of all embeddings of the store of the last fit; empty where it is not known, as in memory.
    """

    split: Mapping[str, Any]
    digests: Tensor
    encoders: Encoders = field(default_factory=dict)
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    store: str = ""

    def after(self, earlier: TrainedOn | None) -> TrainedOn:
        """Add the rows of a fit that this one went on from."""
        if earlier is None:
            return self
        digests = torch.unique(torch.cat([self.digests, earlier.digests]))
        encoders, recipes = {**self.encoders, **earlier.encoders}, {**self.recipes, **earlier.recipes}
        return replace(self, digests=digests, encoders=encoders, recipes=recipes)


def other_encoder(trained: Encoders, found: Encoders) -> str | None:
    """Say where embeddings were made in another way than those that a model was trained on; what is unknown agrees.

    Example:
        >>> other_encoder({"title": {"encoder": "MiniLM", "revision": "7"}}, {"title": {"encoder": "mpnet"}})
        "title: encoder 'mpnet', trained on 'MiniLM'"
    """
    differing = (
        f"{modality}: {what} {found[modality][what]!r}, trained on {value!r}"
        for modality, description in trained.items()
        for what, value in description.items()
        if value is not None and found.get(modality, {}).get(what, value) not in (None, value)
    )
    return "; ".join(differing) or None

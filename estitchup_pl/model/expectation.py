"""What a model has said of the rows that its threshold was found on: what later batches are compared with."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Self

import torch
from torch import Tensor

from estitchup_pl.batch import NONE
from estitchup_pl.errors import CheckpointError
from estitchup_pl.functional import reject
from estitchup_pl.seeding import keyed_generator

MOST_ROWS: Final = 5000
"""Rows that are kept at most, a fixed draw of more: 65 kB of a checkpoint."""


class Expectation(NamedTuple):
    """Decisions about rows that have not trained the network.

    Attributes:
        predicted: Index of the class or ``NONE``, int64 ``(rows,)``.
        confidence: Calibrated probability of the most likely class, float32 ``(rows,)``.
        none_scores: Score of "none", float32 ``(rows,)``.
        known: Whether the row is of a class that the network knew, bool ``(rows,)``.
    """

    predicted: Tensor
    confidence: Tensor
    none_scores: Tensor
    known: Tensor

    @classmethod
    def of(cls, probabilities: Tensor, none_scores: Tensor, threshold: float, labels: Tensor) -> Self:
        """Keep the decisions about some rows.

        Args:
            probabilities: Calibrated, float ``(rows, classes)``.
            none_scores: Scores of "none", float ``(rows,)``.
            threshold: Threshold in ``[0, 1]``.
            labels: Class index or ``NONE``, int64 ``(rows,)``.

        Example:
            >>> rows = torch.tensor([[0.9, 0.2], [0.4, 0.3]]), torch.tensor([0.1, 0.6])
            >>> Expectation.of(*rows, threshold=0.5, labels=torch.tensor([0, NONE])).predicted
            tensor([ 0, -1])
        """
        every = cls(
            reject(probabilities, threshold, none_scores),
            probabilities.amax(dim=1).float(),
            none_scores.float(),
            labels != NONE,
        )
        if len(labels) <= MOST_ROWS:
            return cls(*(column.cpu() for column in every))
        drawn = torch.randperm(len(labels), generator=keyed_generator("expectation"))[:MOST_ROWS].sort().values
        return cls(*(column.cpu()[drawn] for column in every))

    def for_classes(self, places: Tensor) -> Self:
        """The same for other classes; decisions for one that is not among them are left out.

        Args:
            places: For each of the other classes its index among these, or -1, int64 ``(classes,)``.
        """
        moved = (self.predicted[:, None] == places[None].cpu()) & (places >= 0).cpu()
        is_none = self.predicted == NONE
        kept = is_none | moved.any(dim=1)
        predicted = moved.int().argmax(dim=1).masked_fill(is_none, NONE)
        return type(self)(*(column[kept] for column in (predicted, *self[1:])))

    @classmethod
    def unpack(cls, packed: dict[str, Any] | None) -> Self | None:
        """Make what ``_asdict`` has described for a checkpoint.

        Raises:
            CheckpointError: If its parts are not of one length, or hold what is no share.
        """
        if packed is None:
            return None
        made = cls(**packed)
        shares = torch.stack([made.confidence, made.none_scores])
        if len({len(column) for column in made}) > 1 or not bool(((shares >= 0) & (shares <= 1)).all()):
            raise CheckpointError("what the checkpoint keeps of its validation rows is damaged: fit anew")
        return made

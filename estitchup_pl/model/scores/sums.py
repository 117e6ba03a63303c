"""Scores of "none" made of other scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from estitchup_pl.errors import ConfigError
from estitchup_pl.functional.scores import mean_logits, moments, squash, sum_of_z_scores
from estitchup_pl.model.scores.base import NoneScore
from estitchup_pl.model.scores.distances import NeighborDistance
from estitchup_pl.model.scores.logits import MaxProbability


class SumOfScores(NoneScore):
    """The sum of other scores, each standardised by the validation rows of the threshold split, squashed.

    Confidence says where the network hesitates, distances say where it has not been; the sum needs no weight.

    Args:
        scores: What is added up. Default: the paper's score and the distance to five neighbours.

    Raises:
        ConfigError: If there is no score.

    Example:
        >>> score = SumOfScores([MaxProbability(), NeighborDistance(k=1)])
        >>> score.fit(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
        >>> rows, logits = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([[3.0], [-3.0]])
        >>> score.standardize(rows, logits)
        >>> score(rows, logits)
        tensor([0.1667, 0.8333], dtype=torch.float64)
    """

    mean: Tensor
    std: Tensor

    def __init__(self, scores: Sequence[NoneScore] | None = None) -> None:
        super().__init__()
        if scores is not None and not len(scores):
            raise ConfigError("scores: expected at least one score to add up")
        self.scores = nn.ModuleList([MaxProbability(), NeighborDistance()] if scores is None else scores)
        self.declare("mean", "std")

    @property
    @override
    def of_members(self) -> bool:
        return any(score.of_members for score in self._parts())

    @override
    def fit(self, embeddings: Tensor, labels: Tensor) -> None:
        for score in self._parts():
            score.fit(embeddings, labels)

    @override
    def standardize(self, embeddings: Tensor, logits: Tensor) -> None:
        for score in self._parts():
            score.standardize(embeddings, logits if score.of_members else self._of_one(logits))
        self.mean, self.std = moments(self._naturals(embeddings, logits).detach())

    @override
    def natural(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        self.check_fitted()
        return sum_of_z_scores(self._naturals(embeddings, logits), self.mean, self.std)

    @override
    def forward(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        return squash(self.natural(embeddings, logits))

    def _naturals(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        one = self._of_one(logits)
        return torch.stack([score.natural(embeddings, logits if score.of_members else one) for score in self._parts()])

    def _of_one(self, logits: Tensor) -> Tensor:
        return mean_logits(logits) if self.of_members else logits

    def _parts(self) -> list[NoneScore]:
        return [score for score in self.scores if isinstance(score, NoneScore)]

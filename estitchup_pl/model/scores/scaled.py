"""Scores of "none" that scale embeddings in their own way."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from typing_extensions import override

from estitchup_pl.model.scaling import ModalityScaling, Scaling
from estitchup_pl.model.scores.base import NoneScore


class ScaledScore(NoneScore):
    """Another score, of embeddings that come as the store has them and are scaled here first.

    The members of an ensemble may scale embeddings each in its own way; the ensemble itself then leaves them as they
    are, and distances between raw embeddings say little.

    Args:
        score: The score.
        modalities: Name of each modality, in the order of concatenation.
        widths: Columns of each.
        scalings: Scaling of each.

    Example:
        >>> import torch
        >>> from estitchup_pl.model.scores import NearestMean
        >>> score = ScaledScore(NearestMean(), ["title"], [2], ["centered_l2"])
        >>> score.scale.fit(lambda name: (torch.tensor([5.0, 5.0]), torch.ones(2)))
        >>> score.fit(torch.tensor([[6.0, 5.0]]), torch.tensor([0]))
        >>> score(torch.tensor([[9.0, 5.0], [2.0, 5.0]]), torch.zeros(2, 1))
        tensor([0., 1.], dtype=torch.float64)
    """

    def __init__(
        self, score: NoneScore, modalities: Sequence[str], widths: Sequence[int], scalings: Sequence[Scaling]
    ) -> None:
        super().__init__()
        self.score = score
        self.modalities = list(modalities)
        self.widths = list(widths)
        self.scalings = list(scalings)
        named = dict(zip(self.modalities, self.widths, strict=True))
        self.scale = ModalityScaling(named, dict(zip(self.modalities, self.scalings, strict=True)))

    @classmethod
    def of(cls, score: NoneScore, scale: ModalityScaling) -> ScaledScore:
        """Give a score a scaling that has been fitted."""
        scaled = cls(score, list(scale.modalities), list(scale.modalities.values()), list(scale.kinds.values()))
        scaled.scale.load_state_dict(scale.state_dict())
        return scaled

    @property
    @override
    def of_members(self) -> bool:
        return self.score.of_members

    @override
    def fit(self, embeddings: Tensor, labels: Tensor) -> None:
        self.score.fit(self.scale(embeddings), labels)

    @override
    def standardize(self, embeddings: Tensor, logits: Tensor) -> None:
        self.score.standardize(self.scale(embeddings), logits)

    @override
    def natural(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        return self.score.natural(self.scale(embeddings), logits)

    @override
    def forward(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        scores: Tensor = self.score(self.scale(embeddings), logits)
        return scores

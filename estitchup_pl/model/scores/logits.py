"""Scores of "none" by the logits alone."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from estitchup_pl.functional.ood import none_score
from estitchup_pl.functional.scores import disagreement, energy_score, entropy_score, max_logit_score, squash
from estitchup_pl.model.scores.base import NoneScore


class LogitScore(NoneScore):
    """A score of the logits alone, with nothing to learn from training rows; implement ``forward``."""

    @override
    def fit(self, embeddings: Tensor, labels: Tensor) -> None:
        del embeddings, labels


class MaxProbability(LogitScore):
    """One minus the greatest class probability: the paper's (Sec. 2.5).

    A sum standardises the logit of the confidence, which does not crowd near 1.

    Example:
        >>> import torch
        >>> MaxProbability()(torch.empty(2, 0), torch.tensor([[0.0, -1.0], [2.0, 0.0]]))
        tensor([0.5000, 0.1192], dtype=torch.float64)
    """

    @override
    def natural(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        return max_logit_score(logits)

    @override
    def forward(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        return none_score(logits.sigmoid().double())


class MaxLogit(LogitScore):
    """The greatest logit, negated and squashed (Hendrycks et al., 2022); rows are in the order of the paper's score.

    Example:
        >>> import torch
        >>> MaxLogit()(torch.empty(2, 0), torch.tensor([[0.0, -1.0], [9.0, 0.0]]))
        tensor([0.5000, 0.0500], dtype=torch.float64)
    """

    @override
    def natural(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        return max_logit_score(logits)

    @override
    def forward(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        return squash(self.natural(embeddings, logits))


class Energy(LogitScore):
    """The free energy of the logits, squashed (Liu et al., 2020).

    Example:
        >>> import torch
        >>> Energy()(torch.empty(2, 0), torch.tensor([[0.0], [9.0]]))
        tensor([0.5000, 0.0500], dtype=torch.float64)
    """

    @override
    def natural(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        return energy_score(logits)

    @override
    def forward(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        return squash(self.natural(embeddings, logits))


class Entropy(LogitScore):
    """Entropy of the softmax of the logits, as a share of the greatest possible.

    Example:
        >>> import torch
        >>> Entropy()(torch.empty(2, 0), torch.tensor([[3.0, 3.0], [9.0, -torch.inf]]))
        tensor([1., 0.], dtype=torch.float64)
    """

    @override
    def forward(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        return entropy_score(logits)


class Disagreement(LogitScore):
    """How far the members of an ensemble are apart, see :func:`~estitchup_pl.functional.disagreement`.

    Its logits are those of each member, ``(members, rows, classes)``; :attr:`of_members` says so to who calls it.

    Example:
        >>> import torch
        >>> members = torch.tensor([[[9.0, 0.0], [99.0, 0.0]], [[9.0, 0.0], [0.0, 99.0]]])
        >>> Disagreement()(torch.empty(2, 0), members)
        tensor([0., 1.], dtype=torch.float64)
    """

    @property
    @override
    def of_members(self) -> bool:
        return True

    @override
    def forward(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        return disagreement(logits)

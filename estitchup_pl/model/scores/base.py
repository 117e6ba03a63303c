"""What every score of "none" is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor
from typing_extensions import override

from estitchup_pl.model.learnt import Learnt


class NoneScore(Learnt, ABC):
    """A number in ``[0, 1]`` for each row, the higher the more likely the row is "none".

    A score of your own subclasses it and implements :meth:`fit` and ``forward``. What it learns lies in buffers, so
    that a checkpoint holds it, and its constructor takes plain values or other scores, each kept as an attribute of the
    same name.

    Shape:
        ``forward``: scaled embeddings ``(rows, dim)`` and calibrated logits ``(rows, classes)`` to float64 ``(rows,)``.

    Example:
        >>> import torch
        >>> from estitchup_pl.functional import squash
        >>> class Length(NoneScore):
        ...     "Rows that are longer than the mean training row."
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.declare("mean")
        ...     def fit(self, embeddings, labels):
        ...         self.mean = embeddings.norm(dim=1).double().mean()
        ...     def forward(self, embeddings, logits):
        ...         return squash(embeddings.norm(dim=1).double() - self.mean)
        >>> score = Length()
        >>> score.fit(torch.tensor([[3.0, 4.0]]), torch.tensor([0]))
        >>> score(torch.tensor([[0.0, 5.0], [0.0, 8.0]]), torch.zeros(2, 1))
        tensor([0.5000, 0.8750], dtype=torch.float64)
    """

    @property
    def of_members(self) -> bool:
        """Whether ``forward`` needs the logits of each member of an ensemble, ``(members, rows, classes)``."""
        return False

    @abstractmethod
    def fit(self, embeddings: Tensor, labels: Tensor) -> None:
        """Learn from the rows that have trained the network; what :meth:`standardize` has learnt stays.

        There are no logits here: those of rows that a network was trained on are too sure of themselves.

        Args:
            embeddings: As the network sees them, scaled, float ``(rows, dim)``.
            labels: Class index of each row, int64 ``(rows,)``.
        """

    def standardize(self, embeddings: Tensor, logits: Tensor) -> None:
        """Learn moments from the validation rows of a threshold split; most scores have none to learn.

        Args:
            embeddings: As the network sees them, scaled, float ``(rows, dim)``.
            logits: Calibrated, float ``(rows, classes)``.
        """
        del embeddings, logits

    def natural(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        """The score on the scale on which a sum standardises it, float64 ``(rows,)``; unbounded for some."""
        scores: Tensor = self(embeddings, logits)
        return scores

    @abstractmethod
    @override
    def forward(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        """Score rows; see the class for shapes."""


def mean_moments(scores: Iterable[tuple[NoneScore, Tensor, Tensor]]) -> dict[str, Tensor]:
    """Standardize scores that are fitted on several splits, and average what each has learnt by that.

    Args:
        scores: Each score with the embeddings and logits that :meth:`NoneScore.standardize` takes.

    Returns:
        State of a score; empty where it learns nothing from validation rows.
    """
    found: list[dict[str, Tensor]] = []
    for score, embeddings, logits in scores:
        empty = {name for name, value in score.state_dict().items() if not value.numel()}
        score.standardize(embeddings, logits)
        found.append({name: value for name, value in score.state_dict().items() if name in empty})
    return {name: torch.stack([one[name] for one in found]).mean(dim=0) for name in found[0]}

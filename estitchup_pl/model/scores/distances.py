"""Scores of "none" by the distance to training rows."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from estitchup_pl.errors import ConfigError
from estitchup_pl.functional.gaussians import (
    Gaussians,
    check_shrinkage,
    fit_gaussians,
    mahalanobis_distance,
    relative_mahalanobis_distance,
)
from estitchup_pl.functional.neighbors import (
    balanced_subsample,
    class_means,
    nearest_mean_distance,
    neighbor_distance,
    unit_length,
)
from estitchup_pl.functional.scores import squash
from estitchup_pl.model.learnt import check_rows
from estitchup_pl.model.scores.base import NoneScore
from estitchup_pl.seeding import keyed_generator


class NeighborDistance(NoneScore):
    """Half the mean cosine distance to the ``k`` nearest training rows (Sun et al., 2022).

    A row of zeros has distance 0.5 to all others. A modality that an item lacks is zero: its distance to complete
    rows is then greater, and to rows that lack the same one it is not.

    Args:
        k: Neighbours that are averaged; all training rows where there are fewer.
        max_rows: Training rows that are kept, as float16; of more, a fixed draw that leaves no class out for the sake
            of a greater one. 10,000 rows of 1,792 columns are 36 MB of a checkpoint.

    Raises:
        ConfigError: If an argument is less than one.

    Example:
        >>> score = NeighborDistance(k=1)
        >>> score.fit(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]))
        >>> score(torch.tensor([[5.0, 0.0], [-3.0, 0.0]]), torch.zeros(2, 2))
        tensor([0.0000, 0.5000], dtype=torch.float64)
    """

    bank: Tensor

    def __init__(self, k: int = 5, max_rows: int = 10_000) -> None:
        super().__init__()
        for name, value in (("k", k), ("max_rows", max_rows)):
            if value < 1:
                raise ConfigError(f"{name}: expected at least 1, got {value}")
        self.k, self.max_rows = k, max_rows
        self.declare("bank")

    @override
    def fit(self, embeddings: Tensor, labels: Tensor) -> None:
        check_rows(embeddings, labels)
        if len(embeddings) > self.max_rows:
            draw = keyed_generator("NeighborDistance")
            embeddings = embeddings[balanced_subsample(labels, self.max_rows, generator=draw)]
        self.bank = unit_length(embeddings.detach()).half()

    @override
    def forward(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        self.check_fitted()
        return neighbor_distance(embeddings, self.bank, self.k)

    @override
    def extra_repr(self) -> str:
        return f"k={self.k}, max_rows={self.max_rows}"


class NearestMean(NoneScore):
    """Half the cosine distance to the nearest class mean of the training rows.

    Example:
        >>> score = NearestMean()
        >>> score.fit(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]))
        >>> score(torch.tensor([[5.0, 0.0], [-3.0, 0.0]]), torch.zeros(2, 2))
        tensor([0.0000, 0.5000], dtype=torch.float64)
    """

    means: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.declare("means")

    @override
    def fit(self, embeddings: Tensor, labels: Tensor) -> None:
        check_rows(embeddings, labels)
        self.means = class_means(embeddings.detach(), labels)

    @override
    def forward(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        self.check_fitted()
        return nearest_mean_distance(embeddings, self.means)


class Mahalanobis(NoneScore):
    """Mahalanobis distance to the nearest class, squashed (Lee et al., 2018); the classes share one covariance.

    Its state is a float64 matrix of columns × columns: 26 MB at 1,792 columns.

    Args:
        shrinkage: Of the covariance towards equal variances, in ``(0, 1]``; ``None`` for that of Ledoit & Wolf.

    Example:
        >>> score = Mahalanobis(shrinkage=1.0)
        >>> score.fit(torch.tensor([[0.0], [2.0], [10.0], [12.0]]), torch.tensor([0, 0, 1, 1]))
        >>> score(torch.tensor([[1.0], [12.0], [14.0]]), torch.zeros(3, 2))
        tensor([0.5000, 0.7500, 0.9500], dtype=torch.float64)
    """

    centers: Tensor
    whitening: Tensor

    def __init__(self, shrinkage: float | None = None) -> None:
        super().__init__()
        check_shrinkage(shrinkage)
        self.shrinkage = shrinkage
        self.declare("centers", "whitening")

    @property
    def gaussians(self) -> Gaussians:
        """The distributions of the classes."""
        return Gaussians(self.centers, self.whitening)

    @override
    def fit(self, embeddings: Tensor, labels: Tensor) -> None:
        check_rows(embeddings, labels)
        self.centers, self.whitening = fit_gaussians(embeddings.detach(), labels, self.shrinkage)

    @override
    def natural(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        self.check_fitted()
        return mahalanobis_distance(embeddings, self.gaussians)

    @override
    def forward(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        return squash(self.natural(embeddings, logits))

    @override
    def extra_repr(self) -> str:
        return f"shrinkage={self.shrinkage}"


class RelativeMahalanobis(Mahalanobis):
    """Mahalanobis distance to the nearest class less that to all training rows as one, squashed (Ren et al., 2021).

    Args:
        shrinkage: Of both covariances towards equal variances, in ``(0, 1]``; ``None`` for that of Ledoit & Wolf.
    """

    center: Tensor
    whitening_of_all: Tensor

    def __init__(self, shrinkage: float | None = None) -> None:
        super().__init__(shrinkage)
        self.declare("center", "whitening_of_all")

    @override
    def fit(self, embeddings: Tensor, labels: Tensor) -> None:
        super().fit(embeddings, labels)
        everything = fit_gaussians(embeddings.detach(), torch.zeros_like(labels), self.shrinkage)
        self.center, self.whitening_of_all = everything

    @override
    def natural(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        self.check_fitted()
        everything = Gaussians(self.center, self.whitening_of_all)
        return relative_mahalanobis_distance(embeddings, self.gaussians, everything)

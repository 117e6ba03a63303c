"""Linear heads: networks of one layer, and what fits them to all rows at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from estitchup_pl.errors import ConfigError
from estitchup_pl.functional.linear import (
    LinearMap,
    choose_penalty,
    choose_temperature,
    fit_lda,
    fit_logistic_regression,
    log_odds,
)
from estitchup_pl.model.networks import StackedLinear


class LogOdds(nn.Module):
    """Turns scores of a softmax into logits of sigmoids, so that its probabilities are those of this package.

    Shape:
        ``(*, classes)`` to the same; at least two classes.
    """

    @override
    def forward(self, scores: Tensor) -> Tensor:
        return log_odds(scores)


class LinearHead(nn.Sequential):
    """A softmax over one linear layer; the output is the log odds of each class's probability.

    :func:`torch.sigmoid` of the output is the softmax probability. It is fitted by a :class:`HeadSolver`, or trained as
    any other network.

    Args:
        in_features: Width of the concatenated embeddings.
        out_features: Number of known classes, at least 2.

    Raises:
        ConfigError: If there are fewer than two classes.

    Shape:
        ``(*, in_features)`` to ``(*, out_features)``.

    Example:
        >>> head = LinearHead(12, 3)
        >>> bool((torch.sigmoid(head(torch.ones(5, 12))).sum(-1) - 1).abs().max() < 1e-6)
        True
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        if out_features < 2:
            raise ConfigError(f"a LinearHead tells two classes or more apart, got {out_features}: label others too")
        super().__init__(StackedLinear(in_features, out_features), LogOdds())

    @torch.no_grad()
    def load(self, fitted: LinearMap) -> None:
        """Take over weights, rounded to the type of this layer."""
        for parameter, value in zip(self.parameters(), fitted, strict=True):
            parameter.copy_(value)


class HeadSolver(ABC):
    """Fits a :class:`LinearHead` to all training rows at once; subclass it and implement :meth:`solve`.

    Example:
        >>> class NearestMean(HeadSolver):
        ...     def solve(self, embeddings, labels):
        ...         means = torch.stack([embeddings[labels == label].mean(0) for label in labels.unique()])
        ...         return LinearMap(means, -means.square().sum(-1) / 2)
    """

    @abstractmethod
    def solve(self, embeddings: Tensor, labels: Tensor) -> LinearMap:
        """Fit once; the same rows give the same weights.

        Args:
            embeddings: Scaled embeddings, float32 ``(rows, dim)``.
            labels: Class index of each row, int64 ``(rows,)``; each class has at least one.
        """


@dataclass
class LogisticRegression(HeadSolver):
    """Multinomial logistic regression, its penalty chosen on rows held out of the training rows.

    Args:
        penalty: Weight of the squared weights, ``1 / C`` of scikit-learn. Default: chosen by
            :func:`~estitchup_pl.functional.choose_penalty`.
        penalties: Penalties to choose from, the strongest first.
        folds: Parts of the training rows, one of which is left out at a time.
    """

    penalty: float | None = None
    penalties: Sequence[float] | None = None
    folds: int = 4

    @override
    def solve(self, embeddings: Tensor, labels: Tensor) -> LinearMap:
        penalty = self.penalty
        if penalty is None:
            penalty = choose_penalty(embeddings, labels, self.penalties, self.folds)
        return fit_logistic_regression(embeddings, labels, penalty)


@dataclass
class LDA(HeadSolver):
    """Linear discriminant analysis with a shrunk covariance, its confidence set by rows held out of the training rows.

    By itself it is far too sure where there are about as many columns as rows: its probabilities are 0 and 1.

    Args:
        shrinkage: Share of the identity in ``(0, 1]``. Default: that of Ledoit and Wolf.
        temperature: What its scores are divided by, above 0; 1 for the textbook's. Default: chosen by
            :func:`~estitchup_pl.functional.choose_temperature`.
        folds: Parts of the training rows, one of which is left out at a time.

    Raises:
        ConfigError: If the temperature is not positive.
    """

    shrinkage: float | None = None
    temperature: float | None = None
    folds: int = 4

    def __post_init__(self) -> None:
        if self.temperature is not None and not self.temperature > 0:
            raise ConfigError(f"temperature must be positive, got {self.temperature}")

    @override
    def solve(self, embeddings: Tensor, labels: Tensor) -> LinearMap:
        def fit(embeddings: Tensor, labels: Tensor) -> LinearMap:
            return fit_lda(embeddings, labels, self.shrinkage)

        fitted = fit(embeddings, labels)
        temperature = self.temperature or choose_temperature(fit, embeddings, labels, self.folds)
        return LinearMap(fitted.weight / temperature, fitted.bias / temperature)

"""Methods that make something of other methods' logits: temperature scaling, and ensembles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from typing_extensions import override

from estitchup_pl.batch import NONE
from estitchup_pl.errors import ConfigError
from estitchup_pl.functional.temperature import fit_temperature
from estitchup_pl.study.methods import DerivedMethod, Member


@dataclass
class TemperatureScaling(DerivedMethod):
    """The logits of another method divided by one number (Guo et al., 2017).

    The number has the least cross-entropy on the known validation rows of the threshold split; thresholds are found
    anew.

    Args:
        base: Name of the other method.
    """

    base: str

    @property
    @override
    def members(self) -> Sequence[Member]:
        return [Member(self.base)]

    @override
    def learn(self, logits: Sequence[Tensor], labels: Tensor) -> dict[str, float]:
        known = labels != NONE
        finite = logits[0].clamp(min=-1e9)  # a class that was held out is as good as impossible
        return {"temperature": fit_temperature(finite[known], labels[known])}

    @override
    def combine(self, logits: Sequence[Tensor], parameters: Mapping[str, float]) -> Tensor:
        return logits[0] / parameters["temperature"]


@dataclass
class Ensemble(DerivedMethod):
    """The mean probability of several fits of another method that differ in their seeds; the first is its own fit.

    Args:
        base: Name of the other method, which has fits of its own; its chosen values are those of all members.
        size: Number of members, at least 2.

    Raises:
        ConfigError: If there are fewer than two.
    """

    base: str
    size: int = 5

    def __post_init__(self) -> None:
        if self.size < 2:
            raise ConfigError(f"size must be at least 2, got {self.size}")

    @property
    @override
    def members(self) -> Sequence[Member]:
        return [Member(self.base, number) for number in range(self.size)]

    @override
    def combine(self, logits: Sequence[Tensor], parameters: Mapping[str, float]) -> Tensor:
        return mean_logits(logits)


def mean_logits(logits: Sequence[Tensor]) -> Tensor:
    """Logits of the mean of probabilities, computed without rounding to 0 or 1.

    Args:
        logits: Float ``(rows, classes)`` of each member.

    Example:
        >>> mean_logits([torch.tensor([[0.0, 20.0]]), torch.tensor([[0.0, 20.0]])])
        tensor([[ 0., 20.]])
    """
    stacked = torch.stack(list(logits)).double()
    present, absent = (torch.logsumexp(logsigmoid(sign * stacked), dim=0) for sign in (1, -1))
    return (present - absent).to(logits[0].dtype)

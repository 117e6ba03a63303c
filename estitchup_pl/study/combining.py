"""Methods that average other methods' fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from typing_extensions import override

from estitchup_pl.data.datamodule import EmbeddingDataModule
from estitchup_pl.errors import ConfigError
from estitchup_pl.functional import mean_logits
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.ensembles import ensemble_of
from estitchup_pl.study.derived import DerivedMethod, Learnt, Member, MemberRows, uncalibrated


@dataclass
class Ensemble(DerivedMethod):
    """The mean probability of several fits, which differ in their seeds, or are of unlike methods.

    Args:
        base: Name of another method that has fits of its own, or of several, unlike ones; the values chosen for each
            are those of all its fits.
        size: Fits of each, the first of which is its own fit; 5 of a single method and 1 of several, if not given.

    Raises:
        ConfigError: If there are fewer than two fits.
    """

    base: str | list[str]
    size: int | None = None

    def __post_init__(self) -> None:
        if (self.size is not None and self.size < 1) or len(self.members) < 2:
            raise ConfigError(f"an ensemble has at least two fits: size must be at least 2, got {self.size}")

    @property
    @override
    def members(self) -> Sequence[Member]:
        bases = [self.base] if isinstance(self.base, str) else self.base
        size = self.size if self.size is not None else 5 if isinstance(self.base, str) else 1
        return [Member(base, number) for base in bases for number in range(size)]

    @override
    def combine(self, rows: MemberRows, learnt: Learnt) -> Tensor:
        return mean_logits(torch.stack(list(rows.logits)))

    @override
    def classifier(self, members: Sequence[Path], learnt: Learnt, data: EmbeddingDataModule) -> EmbeddingClassifier:
        for member in members:
            uncalibrated(member)
        return ensemble_of(members)

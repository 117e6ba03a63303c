"""Another method's fits with a calibrator and a score of "none" of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from typing_extensions import override

from estitchup_pl.callbacks.taking_over import learn_from_training_rows
from estitchup_pl.data.datamodule import EmbeddingDataModule
from estitchup_pl.errors import ConfigError
from estitchup_pl.model.calibrators import Calibrator
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.decision import Decision
from estitchup_pl.model.ensembles import EnsembleNetwork, scaled_inside
from estitchup_pl.model.scaling import ModalityScaling, Scaling, check_scaling
from estitchup_pl.model.scores import (
    LogitScore,
    Mahalanobis,
    NearestMean,
    NeighborDistance,
    NoneScore,
    ScaledScore,
    SumOfScores,
)
from estitchup_pl.model.scores.base import mean_moments
from estitchup_pl.study.derived import DerivedMethod, Learnt, Member, MemberRows, pooled, uncalibrated
from estitchup_pl.study.scaled_rows import ScaledRows

_DISTANCES: Final = (NeighborDistance, NearestMean, Mahalanobis)
"""Scores that look at the embeddings alone."""


@dataclass
class Decided(DerivedMethod):
    """The fits of another method, decided otherwise: their logits calibrated, "none" told by another score.

    The calibrator is fitted on the validation rows of all threshold splits. The score takes the training rows of the
    fit whose rows it scores; what it learns from validation rows, such as the moments of a sum, is the mean over the
    splits. Thresholds are found anew.

    Args:
        base: Name of the other method.
        calibrator: Calibrator of its logits; they stay as they are if not given.
        score: Score of "none"; the paper's, one minus the confidence, if not given.
        scaling: Scaling of the embeddings that the score sees; that of the other method, of an ensemble that of its
            first member, if not given. What serves a network need not serve distances: with ``"l2"`` each modality
            has the same weight in a cosine.

    Raises:
        ConfigError: If there is neither calibrator nor score, or no such scaling.
    """

    base: str
    calibrator: Calibrator | None = None
    score: NoneScore | None = None
    scaling: Scaling | None = None

    def __post_init__(self) -> None:
        if self.calibrator is None and self.score is None:
            raise ConfigError("Decided changes nothing: give it a calibrator, a score, or both")
        check_scaling(self.scaling or "none")

    @property
    @override
    def score_scaling(self) -> Scaling | None:
        return self.scaling

    @property
    @override
    def members(self) -> Sequence[Member]:
        return [Member(self.base)]

    @override
    def learn(self, repeats: Sequence[MemberRows]) -> Learnt:
        learnt: dict[str, Tensor] = {}
        if self.calibrator is not None:
            calibrator = deepcopy(self.calibrator)
            (logits,), labels = pooled(repeats)
            calibrator.fit(logits, labels)
            learnt = {f"calibrator.{name}": value for name, value in calibrator.state_dict().items()}
        if self.score is not None:
            learnt |= self._moments(self.score, repeats, learnt)
        return learnt

    @override
    def combine(self, rows: MemberRows, learnt: Learnt) -> Tensor:
        return self._calibrated(rows.logits[0], learnt)

    @override
    def none_scores(self, rows: MemberRows, logits: Tensor, learnt: Learnt) -> Tensor | None:
        if self.score is None:
            return None
        score = fitted_score(self.score, rows)
        score.load_state_dict(score.state_dict() | _of_part(learnt, "score"))
        scores: Tensor = score(*self._arguments(score, rows, logits, learnt))
        return scores

    @override
    def classifier(self, members: Sequence[Path], learnt: Learnt, data: EmbeddingDataModule) -> EmbeddingClassifier:
        model = uncalibrated(members[0])
        if self._scales():
            model = scaled_inside(model)
        model.decision = Decision(self._calibrator(learnt), self._score_for(model, learnt, data))
        return model

    def _scales(self) -> bool:
        """Whether the score looks at embeddings that are scaled for it."""
        return self.scaling is not None and self.score is not None and not isinstance(self.score, LogitScore)

    def _score_for(self, model: EmbeddingClassifier, learnt: Learnt, data: EmbeddingDataModule) -> NoneScore | None:
        """The score with all that it has learnt; of an ensemble it sees embeddings as the first member scales them."""
        if self.score is None:
            return None
        own, scale = deepcopy(self.score), member_scaling(model)
        if self._scales():
            scale = ModalityScaling(model.modalities, self.scaling or "none")
            scale.fit(data.moments)
        score = own if scale is model.scale or isinstance(own, LogitScore) else ScaledScore.of(own, scale)
        learn_from_training_rows(score, model, data)
        own.load_state_dict(own.state_dict() | _of_part(learnt, "score"))
        return score

    def _moments(self, unfitted: NoneScore, repeats: Sequence[MemberRows], learnt: Learnt) -> dict[str, Tensor]:
        """What the score learns from validation rows, the mean over the splits."""
        fitted = ((fitted_score(unfitted, rows), rows) for rows in repeats)
        means = mean_moments(
            (score, *self._arguments(score, rows, self.combine(rows, learnt), learnt)) for score, rows in fitted
        )
        return {f"score.{name}": value for name, value in means.items()}

    def _arguments(self, score: NoneScore, rows: MemberRows, logits: Tensor, learnt: Learnt) -> tuple[Tensor, Tensor]:
        if score.of_members:
            logits = torch.stack([self._calibrated(fit, learnt) for fit in rows.fits(0)])
        embeddings = torch.empty(len(rows.labels), 0) if isinstance(score, LogitScore) else rows.scaled.evaluated
        return embeddings, logits

    def _calibrated(self, logits: Tensor, learnt: Learnt) -> Tensor:
        calibrator = self._calibrator(learnt)
        if calibrator is None:
            return logits
        calibrated: Tensor = calibrator(logits)
        return calibrated.float()

    def _calibrator(self, learnt: Learnt) -> Calibrator | None:
        """The calibrator with what it has learnt."""
        if self.calibrator is None:
            return None
        calibrator = deepcopy(self.calibrator)
        calibrator.load_state_dict(_of_part(learnt, "calibrator"))
        return calibrator


def fitted_score(score: NoneScore, rows: MemberRows) -> NoneScore:
    """Copy a score and fit it to the rows that the members were trained on; distances are computed once for all.

    Args:
        score: The score, which stays as it is.
        rows: The rows that it is to score.
    """
    if isinstance(score, _DISTANCES):
        return KnownScore(score, rows.scaled)
    own = deepcopy(score)
    if isinstance(own, SumOfScores):
        own.scores = nn.ModuleList(fitted_score(part, rows) for part in own.scores if isinstance(part, NoneScore))
    elif not isinstance(own, LogitScore):
        own.fit(rows.scaled.train.embeddings, rows.scaled.train.labels)
    return own


class KnownScore(NoneScore):
    """A score of embeddings alone on the rows of a division, remembered there.

    Args:
        score: The score.
        scaled: The rows that it scores, and those that it is fitted to.
    """

    def __init__(self, score: NoneScore, scaled: ScaledRows) -> None:
        super().__init__()
        self.scaled = scaled
        self.own = [score]  # in a list, so that its state is none of this score's

    @override
    def fit(self, embeddings: Tensor, labels: Tensor) -> None:
        del embeddings, labels  # it is fitted to the rows that it was made for

    @override
    def natural(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        return self._known("natural", logits)

    @override
    def forward(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        return self._known("forward", logits)

    def _known(self, kind: str, logits: Tensor) -> Tensor:
        known, key = self.scaled.scores, f"{self.own[0]!r}, {kind}"
        if key not in known:
            own, train = deepcopy(self.own[0]), self.scaled.train
            own.fit(train.embeddings, train.labels)
            known[key] = (own.natural if kind == "natural" else own)(self.scaled.evaluated, logits)
        return known[key]


def member_scaling(model: EmbeddingClassifier) -> ModalityScaling:
    """Scaling of a classifier; of an ensemble that leaves embeddings to its members, that of the first one."""
    network, scale = model.network, model.scale
    while isinstance(network, EnsembleNetwork) and set(scale.kinds.values()) == {"none"}:
        scale, network = network.first_scale, network.members[0]
    return scale


def _of_part(learnt: Learnt, part: str) -> dict[str, Tensor]:
    """State of the calibrator or the score."""
    return {name.removeprefix(f"{part}."): value for name, value in learnt.items() if name.startswith(f"{part}.")}

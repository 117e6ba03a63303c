"""Small classifiers whose every part has learnt something, built without a fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from estitchup_pl import EmbeddingClassifier
from estitchup_pl.model import calibrators, scores
from estitchup_pl.model.decision import Decision, ThresholdBasis
from estitchup_pl.model.ensembles import EnsembleNetwork
from estitchup_pl.model.heads import LinearHead
from estitchup_pl.model.networks import EmbeddingMLP, MemberNetwork

CLASSES = ["hat", "shoe", "scarf", "glove"]
MODALITIES = {"title": 3, "photo": 4}
EVERY_SCORE = [name for name in scores.__all__ if name not in ("NoneScore", "LogitScore", "Disagreement")]
EVERY_CALIBRATOR = ["Temperature", "VectorScaling", "IsotonicTopLabel", "LogitNormalization"]


def score_named(name: str) -> scores.NoneScore:
    if name == "ScaledScore":
        score = scores.ScaledScore(scores.NearestMean(), [*MODALITIES], [*MODALITIES.values()], ["centered_l2", "l2"])
        score.scale.fit(lambda modality: (torch.full((MODALITIES[modality],), 0.1), torch.ones(MODALITIES[modality])))
        return score
    made: scores.NoneScore = getattr(scores, name)()
    return made


def rows(count: int, seed: int) -> Tensor:
    return torch.randn(count, sum(MODALITIES.values()), generator=torch.Generator().manual_seed(seed))


def fitted(
    score: scores.NoneScore | None = None, calibrator: calibrators.Calibrator | None = None
) -> EmbeddingClassifier:
    """A classifier whose every part has learnt something."""
    model = EmbeddingClassifier(
        class_names=CLASSES, modalities=MODALITIES, scaling={"title": "standardize", "photo": "l2"}
    )
    model.scale.fit(lambda name: (torch.full((MODALITIES[name],), 0.1), torch.full((MODALITIES[name],), 2.0)))
    return with_decision(model, score, calibrator)


def with_decision(
    model: EmbeddingClassifier, score: scores.NoneScore | None, calibrator: calibrators.Calibrator | None
) -> EmbeddingClassifier:
    """Give a classifier weights that tell rows apart, and a decision whose every part has learnt something."""
    model.configure_model()
    model.eval()
    places = torch.arange(200)
    with torch.no_grad():
        for weight in model.network.parameters():  # type: ignore[union-attr]
            weight *= 3 if weight.ndim > 1 else 0  # as if it had learnt something: rows differ in their class
        embeddings = model.scale(rows(200, 0))
        logits = model(embeddings)
        labels = logits.argmax(dim=1).where(places % 4 > 0, places // 4 % 4)  # three of four are right
        if calibrator:
            calibrator.fit(logits, labels)
        if score:
            score.fit(embeddings, labels)
            score.standardize(embeddings, calibrator(logits) if calibrator else logits)
        unseen = model.scale(rows(200, 4))
        acceptance = 1 - Decision(calibrator, score)(unseen, model(unseen)).none_scores
    threshold = float(acceptance.median())
    model.decision = Decision(calibrator, score, threshold, basis=ThresholdBasis(30, 170, 0.1, 0.9))
    model.decision.learn_sets(model(embeddings).detach(), labels)
    return model.eval()


class TwoMembers(MemberNetwork):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(nn.Linear(in_features, out_features) for _ in range(2))

    def member_logits(self, embeddings: Tensor) -> Tensor:
        return torch.stack([member(embeddings) for member in self.members])


def ensemble() -> EmbeddingClassifier:
    """Two members whose disagreement is the score of "none"."""
    model = EmbeddingClassifier(TwoMembers, class_names=CLASSES, modalities=MODALITIES)
    model.configure_model()
    calibrator = calibrators.Temperature()
    queries = rows(200, 0)
    with torch.no_grad():
        calibrator.fit(model(queries), torch.arange(200) % 4)
        model.decision = Decision(calibrator, scores.Disagreement())
        none_scores = model.decision(queries, model.outputs(queries)).none_scores
    model.threshold = float(1 - none_scores.median())
    return model.eval()


def of_heads(heads: Sequence[Callable[[int, int], nn.Module]]) -> EmbeddingClassifier:
    """Unlike heads, each with a scaling of its own, and neighbours as the score of "none"."""
    scalings = [dict.fromkeys(MODALITIES, kind) for kind in ("l2", "none")]
    network = partial(EnsembleNetwork, members=heads, modalities=MODALITIES, scalings=scalings)
    model = EmbeddingClassifier(network, class_names=CLASSES, modalities=MODALITIES)
    return with_decision(model, scores.SumOfScores(), calibrators.VectorScaling())


def linear(score: scores.NoneScore, calibrator: calibrators.Calibrator) -> EmbeddingClassifier:
    """The head of a logistic regression or an LDA."""
    model = EmbeddingClassifier(LinearHead, class_names=CLASSES, modalities=MODALITIES, scaling="l2")
    return with_decision(model, score, calibrator)


def a_part_of_each() -> list[EmbeddingClassifier]:
    everything = scores.SumOfScores([score_named(name) for name in EVERY_SCORE if name != "SumOfScores"])
    return [
        fitted(everything, calibrators.IsotonicTopLabel()),
        fitted(scores.RelativeMahalanobis(), calibrators.LogitNormalization()),
        fitted(None, calibrators.VectorScaling()),
        ensemble(),
        linear(scores.Energy(), calibrators.Temperature()),
        of_heads([EmbeddingMLP, LinearHead]),
    ]

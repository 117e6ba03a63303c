"""Scores of "none": how likely it is that a row belongs to no known class."""

from estitchup_pl.model.scores.base import NoneScore
from estitchup_pl.model.scores.distances import Mahalanobis, NearestMean, NeighborDistance, RelativeMahalanobis
from estitchup_pl.model.scores.logits import Disagreement, Energy, Entropy, LogitScore, MaxLogit, MaxProbability
from estitchup_pl.model.scores.scaled import ScaledScore
from estitchup_pl.model.scores.sums import SumOfScores

__all__ = [
    "Disagreement",
    "Energy",
    "Entropy",
    "LogitScore",
    "Mahalanobis",
    "MaxLogit",
    "MaxProbability",
    "NearestMean",
    "NeighborDistance",
    "NoneScore",
    "RelativeMahalanobis",
    "ScaledScore",
    "SumOfScores",
]

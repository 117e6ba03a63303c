"""The classifier: network, scaling, learning rate schedule, what decides, and what a checkpoint of it says."""

from estitchup_pl.model.calibrators import Calibrator, IsotonicTopLabel, LogitNormalization, Temperature, VectorScaling
from estitchup_pl.model.checkpoints import read_checkpoint
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.decision import Decision, Decisions
from estitchup_pl.model.ensembles import EnsembleNetwork, ensemble_of
from estitchup_pl.model.heads import LDA, HeadSolver, LinearHead, LogisticRegression, LogOdds
from estitchup_pl.model.networks import EmbeddingMLP, KeyedDropout, SoftTargetBCE, StackedLinear
from estitchup_pl.model.saving import described, save_classifier
from estitchup_pl.model.scaling import SCALINGS, ModalityScaling, Scaling
from estitchup_pl.model.schedules import TriangularCycle
from estitchup_pl.model.scores import (
    Disagreement,
    Energy,
    Entropy,
    LogitScore,
    Mahalanobis,
    MaxLogit,
    MaxProbability,
    NearestMean,
    NeighborDistance,
    NoneScore,
    RelativeMahalanobis,
    ScaledScore,
    SumOfScores,
)

__all__ = [
    "LDA",
    "SCALINGS",
    "Calibrator",
    "Decision",
    "Decisions",
    "Disagreement",
    "EmbeddingClassifier",
    "EmbeddingMLP",
    "Energy",
    "EnsembleNetwork",
    "Entropy",
    "HeadSolver",
    "IsotonicTopLabel",
    "KeyedDropout",
    "LinearHead",
    "LogOdds",
    "LogisticRegression",
    "LogitNormalization",
    "LogitScore",
    "Mahalanobis",
    "MaxLogit",
    "MaxProbability",
    "ModalityScaling",
    "NearestMean",
    "NeighborDistance",
    "NoneScore",
    "RelativeMahalanobis",
    "ScaledScore",
    "Scaling",
    "SoftTargetBCE",
    "StackedLinear",
    "SumOfScores",
    "Temperature",
    "TriangularCycle",
    "VectorScaling",
    "described",
    "ensemble_of",
    "read_checkpoint",
    "save_classifier",
]

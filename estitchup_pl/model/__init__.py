"""The classifier: network, scaling, learning rate schedule, and what a checkpoint of it says."""

from estitchup_pl.model.checkpoints import read_checkpoint
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.networks import EmbeddingMLP, KeyedDropout, SoftTargetBCE, StackedLinear
from estitchup_pl.model.scaling import SCALINGS, ModalityScaling, Scaling
from estitchup_pl.model.schedules import TriangularCycle

__all__ = [
    "SCALINGS",
    "EmbeddingClassifier",
    "EmbeddingMLP",
    "KeyedDropout",
    "ModalityScaling",
    "Scaling",
    "SoftTargetBCE",
    "StackedLinear",
    "TriangularCycle",
    "read_checkpoint",
]

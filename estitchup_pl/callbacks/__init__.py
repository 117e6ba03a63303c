"""Plug-ins for ``trainer.callbacks``, in the order in which they take effect."""

from estitchup_pl.callbacks.augmentation import (
    Augmentation,
    EmbeddingAugmentation,
    EMixup,
    EStitchup,
    ModalityStitch,
)
from estitchup_pl.callbacks.calibration import Calibration
from estitchup_pl.callbacks.checkpoint import FitCheckpoint
from estitchup_pl.callbacks.deciding import DecisionCallback
from estitchup_pl.callbacks.evaluated import EvaluatedRows
from estitchup_pl.callbacks.heads import FitHead, WithoutTraining
from estitchup_pl.callbacks.ood import OODThreshold
from estitchup_pl.callbacks.predictions import PredictionWriter
from estitchup_pl.callbacks.softening import LabelSoftening
from estitchup_pl.callbacks.warm_start import WarmStart

__all__ = [
    "Augmentation",
    "Calibration",
    "DecisionCallback",
    "EMixup",
    "EStitchup",
    "EmbeddingAugmentation",
    "EvaluatedRows",
    "FitCheckpoint",
    "FitHead",
    "LabelSoftening",
    "ModalityStitch",
    "OODThreshold",
    "PredictionWriter",
    "WarmStart",
    "WithoutTraining",
]

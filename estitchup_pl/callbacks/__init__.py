"""Plug-ins for ``trainer.callbacks``, in the order in which they take effect."""

from estitchup_pl.callbacks.augmentation import (
    Augmentation,
    EmbeddingAugmentation,
    EMixup,
    EStitchup,
    ModalityStitch,
)
from estitchup_pl.callbacks.ood import OODThreshold
from estitchup_pl.callbacks.predictions import PredictionWriter
from estitchup_pl.callbacks.softening import LabelSoftening

__all__ = [
    "Augmentation",
    "EMixup",
    "EStitchup",
    "EmbeddingAugmentation",
    "LabelSoftening",
    "ModalityStitch",
    "OODThreshold",
    "PredictionWriter",
]

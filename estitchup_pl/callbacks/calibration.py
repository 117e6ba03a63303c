"""Calibration of the probabilities on validation rows."""

from __future__ import annotations

import copy
from typing import ClassVar

import lightning.pytorch as pl
from typing_extensions import override

from estitchup_pl.callbacks.deciding import DecisionCallback
from estitchup_pl.callbacks.evaluated import EvaluatedRows
from estitchup_pl.model.calibrators import Calibrator, Temperature
from estitchup_pl.model.classifier import EmbeddingClassifier


class Calibration(DecisionCallback):
    """Fits a calibrator on the validation rows, before a threshold is found on them.

    It is kept in the checkpoint and applied wherever the classifier decides. Only rows of known classes are fitted on.

    Args:
        calibrator: What is fitted. Default: a temperature by whether the most likely class is right.

    Example:
        >>> Calibration().calibrator
        Temperature(target='top')
    """

    rank: ClassVar[int] = 0

    def __init__(self, calibrator: Calibrator | None = None) -> None:
        self.calibrator = calibrator or Temperature()

    @override
    def fit_decision(self, trainer: pl.Trainer, model: EmbeddingClassifier, rows: EvaluatedRows) -> None:
        calibrator = copy.deepcopy(self.calibrator)
        calibrator.fit(rows.logits, rows.labels)
        model.decision.calibrator = calibrator.to(model.device)

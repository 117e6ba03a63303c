"""A classifier as one function from raw embeddings to decisions: what is exported, and what is compared with it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from estitchup_pl.batch import NONE
from estitchup_pl.errors import ConfigError
from estitchup_pl.functional import none_score
from estitchup_pl.functional.scores import mean_logits
from estitchup_pl.model.classifier import EmbeddingClassifier


class DeployedDecisions(NamedTuple):
    """Decisions on items.

    Attributes:
        probabilities: Calibrated probability of each class in ``[0, 1]``, float32 ``(rows, classes)``.
        none_scores: Score of "none" in ``[0, 1]``, float32 ``(rows,)``.
        predicted: Index of the class or ``NONE``, int64 ``(rows,)``.
    """

    probabilities: Tensor
    none_scores: Tensor
    predicted: Tensor


class Deployed(nn.Module):
    """Scaling, network, calibration, score of "none" and threshold of a fitted classifier in one module.

    It takes the embeddings of each modality, as the store has them, in the model's order.

    Args:
        model: A fitted classifier; it shares its weights.

    Shape:
        ``(rows, dim)`` of each modality to :class:`DeployedDecisions`.

    Raises:
        ConfigError: If the classifier has no network yet.

    Example:
        >>> model = EmbeddingClassifier(class_names=["hat", "shoe"], modalities={"title": 2, "photo": 3})
        >>> model.configure_model()
        >>> Deployed(model)(torch.zeros(1, 2), torch.zeros(1, 3)).predicted.shape
        torch.Size([1])
    """

    def __init__(self, model: EmbeddingClassifier) -> None:
        super().__init__()
        if model.network is None:
            raise ConfigError("the classifier has no network yet: fit it, or load it from a checkpoint")
        self.scale, self.network, self.threshold = model.scale, model.network, model.threshold
        decision = model.decision
        self.calibrator = decision.calibrator.as_graph() if decision.calibrator else None
        self.score = decision.score.as_graph() if decision.score else None
        self.train(False)

    @override
    def forward(self, *embeddings: Tensor) -> DeployedDecisions:
        scaled = self.scale(torch.cat([part.float() for part in embeddings], dim=1))
        logits = self.network(scaled).float()
        # As Decision decides; its checks, and branches on values, have no place in a graph.
        calibrated = logits if self.calibrator is None else self.calibrator(logits.flatten(0, -2)).view(logits.shape)
        probabilities = (mean_logits(calibrated) if logits.ndim == 3 else calibrated).sigmoid().float()
        confidence = probabilities.double()
        none_scores = none_score(confidence) if self.score is None else self.score(scaled, calibrated)
        acceptance = (1 - none_scores).float()
        threshold = -1.0 if math.isnan(self.threshold) else self.threshold
        predicted = torch.where(acceptance > threshold, probabilities.argmax(dim=1), NONE)
        return DeployedDecisions(probabilities, none_scores.float(), predicted)

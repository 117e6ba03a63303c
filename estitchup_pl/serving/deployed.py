"""A classifier as one function from raw embeddings to decisions: what is exported, and what is compared with it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from estitchup_pl.errors import ConfigError
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.decision import Decision, Decisions
from estitchup_pl.model.networks import decision_logits


class Deployed(nn.Module):
    """Scaling, network, calibration, score of "none" and threshold of a fitted classifier in one module.

    It takes the embeddings of each modality, as the store has them, in the model's order.

    Args:
        model: A fitted classifier; it shares its weights.

    Shape:
        ``(rows, dim)`` of each modality to :class:`~estitchup_pl.model.decision.Decisions` with float32 scores.

    Raises:
        ConfigError: If the classifier has no network yet, or a ``forward`` of its own.

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
        if type(model).forward is not EmbeddingClassifier.forward:
            raise ConfigError(
                f"{type(model).__name__} has a forward of its own, which would be left out: move it into its network"
            )
        calibrator = model.decision.calibrator
        self.scale, self.network = model.scale, model.network
        self.decision = Decision(calibrator and calibrator.as_graph(), model.decision.score, model.threshold)
        self.train(False)

    @override
    def forward(self, *embeddings: Tensor) -> Decisions:
        scaled = self.scale(torch.cat([part.float() for part in embeddings], dim=1))
        decided: Decisions = self.decision(scaled, decision_logits(self.network, scaled))
        return decided._replace(none_scores=decided.none_scores.float())

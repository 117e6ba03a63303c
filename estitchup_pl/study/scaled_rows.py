"""The embeddings of one division of the rows, scaled as a classifier scales them."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.inputs import side_by_side
from estitchup_pl.store.labels import Rows
from estitchup_pl.study.methods import TrainingRows
from estitchup_pl.study.trials import Division, Trials


class ScaledRows:
    """Embeddings of the rows of a division, each part read when it is first asked for.

    Args:
        trials: The rows of the study.
        division: The rows that train and those that are evaluated.
        model: A classifier that has seen no data yet; its scaling is fitted to the rows that train.

    Attributes:
        scores: Scores of the evaluated rows that are known already, by what they are.
    """

    def __init__(self, trials: Trials, division: Division, model: EmbeddingClassifier) -> None:
        self.trials = trials
        self.division = division
        self.scores: dict[str, Tensor] = {}
        self._unfitted = model

    @cached_property
    def train(self) -> TrainingRows:
        """The rows that train."""
        names = self.division.class_names
        labels = torch.from_numpy(self.trials.labels.index(names)[self.division.train])
        return TrainingRows(self.gather(self.division.train), labels, tuple(names))

    @cached_property
    def evaluated(self) -> Tensor:
        """The rows that are evaluated, float32 ``(rows, dim)``."""
        return self.gather(self.division.evaluated)

    def gather(self, rows: Rows) -> Tensor:
        """Any rows of the store, float32 ``(rows, dim)``."""
        joined: Tensor = self._model.scale(side_by_side(self.trials.gather(rows), self._model.modalities))
        return joined

    @cached_property
    def _model(self) -> EmbeddingClassifier:
        data, model = self.trials.data(self.division), self._unfitted
        model.describe_data(self.division.class_names, data.modalities, data.moments)
        return model

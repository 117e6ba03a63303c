"""Linear heads as methods of a study."""

from __future__ import annotations

from dataclasses import dataclass, field

from typing_extensions import override

from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.heads import HeadSolver, LinearHead, LogisticRegression
from estitchup_pl.model.packing import class_path
from estitchup_pl.model.scaling import Scaling, check_scaling
from estitchup_pl.study.building import Description
from estitchup_pl.study.methods import MODEL, Grid, Predictor, RowsMethod, TrainingRows


@dataclass
class HeadMethod(RowsMethod):
    """A linear head, solved at once; ``estitchup fit`` with :class:`~estitchup_pl.callbacks.FitHead` gives the same.

    Args:
        solver: How it is fitted. Default: logistic regression, which chooses its penalty on the training rows at hand.
        scaling: Scaling of its rows; that of the study's model if not given.
        grid: Values to choose from in each trial.

    Raises:
        ConfigError: If the scaling does not exist.
    """

    solver: HeadSolver = field(default_factory=LogisticRegression)
    scaling: Scaling | None = None
    grid: Grid = field(default_factory=Grid)

    def __post_init__(self) -> None:
        check_scaling(self.scaling or "none")

    @override
    def scaled_by(self, common: EmbeddingClassifier) -> EmbeddingClassifier:
        return common if self.scaling is None else EmbeddingClassifier(scaling=self.scaling)

    @override
    def description(self, common: Description) -> Description:
        scaling = self.scaling or common["init_args"]["scaling"]
        return {
            "class_path": MODEL,
            "init_args": {"network": {"class_path": class_path(LinearHead)}, "scaling": scaling},
        }

    @override
    def fit(self, rows: TrainingRows, seed: int) -> Predictor:
        return self.network(rows, seed)

    @override
    def network(self, rows: TrainingRows, seed: int) -> LinearHead:
        head = LinearHead(rows.embeddings.shape[1], len(rows.class_names))
        head.load(self.solver.solve(rows.embeddings, rows.labels))
        return head

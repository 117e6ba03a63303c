"""Classifiers of scikit-learn on the rows that the network is trained on, with and without augmentation (Sec. 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import Callback
from sklearn.base import BaseEstimator
from sklearn.utils.validation import has_fit_parameter
from torch import Tensor
from typing_extensions import override

from estitchup_pl.callbacks import Augmentation
from estitchup_pl.errors import ConfigError
from estitchup_pl.seeding import keyed_generator
from estitchup_pl.study.methods import Grid, Predictor, RowsMethod, TrainingRows

FLOOR = 1e-6
"""Probabilities are kept this far from 0 and 1, so that their logits are finite."""

Array = npt.NDArray[Any]


@dataclass
class EstimatorMethod(RowsMethod):
    """A classifier of scikit-learn in place of the network, on the same rows, scaled alike.

    Args:
        estimator: The classifier.
        callbacks: At most one augmentation; the classifier then gets augmented copies of the rows beside them.
        copies: Augmented copies of each row, at least 1.
        grid: Values to choose from in each trial.

    Raises:
        ConfigError: If ``copies`` is less than one.
    """

    estimator: Callable[[], BaseEstimator]
    callbacks: list[Callable[[], Callback]] = field(default_factory=list)
    copies: int = 4
    grid: Grid = field(default_factory=Grid)

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise ConfigError(f"copies must be at least 1, got {self.copies}")

    @override
    def check(self) -> None:
        check_augmentable(self.estimator(), [make() for make in self.callbacks])

    @override
    def fit(self, rows: TrainingRows, seed: int) -> Predictor:
        callbacks = [make() for make in self.callbacks]
        fitted = fit_estimator(self.estimator(), rows.embeddings, rows.labels, callbacks, self.copies, seed)
        return lambda embeddings: torch.from_numpy(estimator_logits(fitted, embeddings.numpy()))


def fit_estimator(
    estimator: Any,
    embeddings: Tensor,
    labels: Tensor,
    callbacks: Sequence[Callback] = (),
    copies: int = 1,
    seed: int = 0,
) -> Any:
    """Fit a classifier to rows and, if there are callbacks, to augmented copies of them.

    Classifiers take one label a row: a mixed item enters as one row for each of its classes, weighted by its target.

    Args:
        estimator: An unfitted classifier of scikit-learn.
        embeddings: Scaled float32 ``(rows, dim)``.
        labels: Class of each row, int64 ``(rows,)``.
        callbacks: At most one :class:`Augmentation`.
        copies: Augmented copies of the rows.
        seed: Seed of the augmentation and, where the estimator has one unset, of the estimator.

    Raises:
        ConfigError: If a callback is no augmentation, or the estimator cannot weight its rows.
    """
    if "random_state" in estimator.get_params() and estimator.get_params()["random_state"] is None:
        estimator.set_params(random_state=seed % 2**32)
    augmentation = check_augmentable(estimator, callbacks)
    if augmentation is None:
        return estimator.fit(embeddings.numpy(), labels.numpy())
    parts = [(embeddings, labels, torch.ones(len(labels)))]
    parts += [augmented_rows(augmentation, embeddings, labels, seed, copy) for copy in range(copies)]
    joined = [torch.cat(columns).numpy() for columns in zip(*parts, strict=True)]
    return estimator.fit(joined[0], joined[1], sample_weight=joined[2])


def check_augmentable(estimator: Any, callbacks: Sequence[Callback]) -> Augmentation | None:
    """Return the augmentation among the callbacks, if there are any, once it is known that the estimator can use it.

    Raises:
        ConfigError: If a callback is no augmentation, there are several, or the estimator cannot weight its rows.
    """
    if not callbacks:
        return None
    if len(callbacks) != 1 or not isinstance(callbacks[0], Augmentation):
        names = ", ".join(type(callback).__name__ for callback in callbacks)
        raise ConfigError(f"an estimator takes one augmentation such as EStitchup as its callbacks, got {names}")
    if not has_fit_parameter(estimator, "sample_weight"):
        raise ConfigError(
            f"{type(estimator).__name__} cannot weight its rows (sample_weight), so it takes no callbacks"
        )
    return callbacks[0]


def augmented_rows(
    augmentation: Augmentation, embeddings: Tensor, labels: Tensor, seed: int, copy: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Augment each row; each row that is mixed comes once for each class of its target.

    Args:
        augmentation: What changes the rows.
        embeddings: Float ``(rows, dim)``.
        labels: Int64 ``(rows,)``.
        seed: Seed.
        copy: Number of the copy, part of the key of its random numbers.

    Returns:
        Embeddings ``(mixed, dim)``, labels and weights ``(mixed,)``; the weights of a mixed item sum to one.
    """
    targets = torch.eye(int(labels.max()) + 1)[labels]
    mixed, targets = augmentation.augment(embeddings, targets, keyed_generator(seed, augmentation.state_key, copy))
    row, label = targets.nonzero(as_tuple=True)
    return mixed[row], label, targets[row, label]


def estimator_logits(estimator: Any, embeddings: Array) -> Array:
    """Logits ``(rows, classes)`` of a fitted classifier.

    They are the log odds of its probabilities. A classifier without probabilities, such as a linear SVM, gives its
    margins as they are: they are logits of a sigmoid that nobody has calibrated, which temperature scaling can do.
    """
    if hasattr(estimator, "predict_proba"):
        probabilities = np.clip(estimator.predict_proba(embeddings), FLOOR, 1 - FLOOR)
        return np.asarray(np.log(probabilities) - np.log1p(-probabilities))
    margins = np.asarray(estimator.decision_function(embeddings))
    return margins if margins.ndim == 2 else np.stack([-margins, margins], axis=1)

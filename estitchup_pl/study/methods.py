"""What a study compares: one family of classes, which users add to.

A :class:`FittedMethod` has fits of its own; a :class:`~estitchup_pl.study.derived.DerivedMethod` makes something of the
fits of others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final, NamedTuple

from lightning.pytorch import Callback
from torch import Tensor, nn
from typing_extensions import override

from estitchup_pl.callbacks import Augmentation, LabelSoftening
from estitchup_pl.errors import ConfigError
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.study.building import Description, Plain, Values, build, spelled_out

Predictor = Callable[[Tensor], Tensor]
"""Maps scaled float32 embeddings ``(rows, dim)`` to logits ``(rows, classes)``."""

Model = Callable[[], EmbeddingClassifier]
"""Makes a classifier that is not fitted yet."""

MODEL: Final = "estitchup_pl.EmbeddingClassifier"
"""The classifier where no class is named."""

Grid = Plain
"""A list of values to choose from, by the name of an argument."""


class TrainingRows(NamedTuple):
    """Rows that a method without epochs is fitted on.

    Attributes:
        embeddings: Scaled as the study's model scales them, float32 ``(rows, dim)``.
        labels: Class of each row, int64 ``(rows,)``.
        class_names: Names of the classes.
    """

    embeddings: Tensor
    labels: Tensor
    class_names: tuple[str, ...]


class Method(ABC):  # noqa: B024  # its two families have the abstract methods
    """One method of a study; to add a kind, subclass :class:`FittedMethod` or ``DerivedMethod``.

    A subclass is named in YAML by its ``class_path``, and what it takes stands in ``init_args``.
    """

    def check(self) -> None:  # noqa: B027  # there may be nothing to check
        """Make whatever it needs once, so that a mistake is told before hours are spent.

        Raises:
            ConfigError: If something cannot work.
        """


class FittedMethod(Method):
    """A method with fits of its own: a :class:`NetworkMethod`, or a :class:`RowsMethod`.

    Attributes:
        grid: Values to choose from in each trial, on a part of its training rows. A name is that of any argument of
            the method or of an object within it; a longer one, such as ``loss.gamma``, says whose.
    """

    grid: Grid

    @abstractmethod
    def scaled_by(self, common: EmbeddingClassifier) -> EmbeddingClassifier:
        """Return a classifier that is not fitted yet and scales embeddings as this method has them.

        Args:
            common: That of the study.
        """

    def description(self, common: Description) -> Description:
        """Describe the classifier that a fit of this method gives, in plain values.

        Args:
            common: Description of that of the study.

        Raises:
            ConfigError: If it gives none, which is so unless a subclass says otherwise.
        """
        raise ConfigError(
            f"a fit of {type(self).__name__} is no classifier of this package, so no checkpoint can be made of it: "
            "choose among networks, linear heads (HeadMethod) and what is made of them"
        )


class RowsMethod(FittedMethod):
    """A method that is fitted on all training rows at once; subclass it and implement :meth:`fit`.

    Example:
        >>> import torch
        >>> @dataclass
        ... class NearestMean(RowsMethod):
        ...     grid: Grid = field(default_factory=Grid)
        ...
        ...     def fit(self, rows, seed):
        ...         means = [rows.embeddings[rows.labels == label].mean(0) for label in range(len(rows.class_names))]
        ...         return lambda embeddings: -torch.cdist(embeddings, torch.stack(means))
    """

    @override
    def scaled_by(self, common: EmbeddingClassifier) -> EmbeddingClassifier:
        return common

    @abstractmethod
    def fit(self, rows: TrainingRows, seed: int) -> Predictor:
        """Fit once.

        Args:
            rows: What to fit on.
            seed: Seed of whatever is drawn.
        """

    def network(self, rows: TrainingRows, seed: int) -> nn.Module:
        """Fit once, as :meth:`fit` does, to the network of the classifier that :meth:`description` describes.

        Raises:
            ConfigError: If there is none, which is so unless a subclass says otherwise.
        """
        raise ConfigError(f"{type(self).__name__} has no network: it gives no classifier of this package")


@dataclass
class NetworkMethod(FittedMethod):
    """The classifier of ``estitchup fit``, trained with callbacks; a method without ``class_path`` is one.

    Args:
        callbacks: What changes the training batches, in this order.
        model: Description of the classifier. A part that is not named is that of the study's ``model``.
        batch_size: Rows of a training batch; those of the study if not given.
        grid: Values to choose from in each trial, as for :class:`FittedMethod`.

    Raises:
        ConfigError: If softening comes before an augmentation.
    """

    callbacks: list[Callable[[], Callback]] = field(default_factory=list)
    model: Plain = field(default_factory=Plain)
    batch_size: int | None = None
    grid: Grid = field(default_factory=Grid)

    def make_model(self) -> EmbeddingClassifier:
        """Make the classifier."""
        model: EmbeddingClassifier = build(Model, spelled_out(self.model, MODEL), "model")()
        return model

    @override
    def scaled_by(self, common: EmbeddingClassifier) -> EmbeddingClassifier:
        return self.make_model()

    @override
    def description(self, common: Description) -> Description:
        return spelled_out(self.model, MODEL)

    @override
    def check(self) -> None:
        self.make_model()
        softened = False
        for callback in (make() for make in self.callbacks):
            if softened and isinstance(callback, Augmentation):
                raise ConfigError(
                    f"LabelSoftening comes before {type(callback).__name__}, but softening applies to the mixed "
                    "targets (Sec. 2.4): change their order"
                )
            softened = softened or isinstance(callback, LabelSoftening)


def candidates(grid: Mapping[str, Sequence[Any]]) -> list[Values]:
    """List every combination of a grid; one empty combination where there is no grid.

    Example:
        >>> candidates({"alpha": [0.2, 0.4], "softness": [0.1]})
        [{'alpha': 0.2, 'softness': 0.1}, {'alpha': 0.4, 'softness': 0.1}]
    """
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]

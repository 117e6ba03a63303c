"""Methods that are made of other methods' fits: what they are given, and what they answer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from estitchup_pl.data.datamodule import EmbeddingDataModule
from estitchup_pl.errors import ConfigError
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.scaling import Scaling
from estitchup_pl.study.methods import Method
from estitchup_pl.study.scaled_rows import ScaledRows

Learnt = Mapping[str, Any]
"""What a derived method has learnt, by name: tensors, or values that JSON can hold."""


class Member(NamedTuple):
    """One fit whose logits a derived method takes.

    Attributes:
        method: Name of the method whose fit it is; itself derived only if ``number`` is 0.
        number: Which of its fits: they differ in their seed, and number 0 is the method's own.
    """

    method: str
    number: int = 0


@dataclass(frozen=True)
class MemberRows:
    """What the members of a derived method say of some rows: those that a threshold split validates on, or test rows.

    Attributes:
        logits: Those of each member, float32 ``(rows, classes)``; minus infinity for classes the fits did not know.
        labels: Class index or ``NONE``, int64 ``(rows,)``.
        class_counts: Rows that the fits were trained on, of each class that they know, int64 ``(classes,)``.
        none_scores: Scores of "none" of each member, float32 ``(rows,)``; ``None`` where they are the paper's.
        fits_of: The fits that each member is made of.
        fits: Reads the logits of each fit that a member, by its position, is made of, ``(fits, rows, classes)``.
        scaled: The embeddings of the rows, and those of the rows that the fits were trained on, scaled as the first
            member scales them, or as the method says; they are read when they are first asked for.
    """

    logits: Sequence[Tensor]
    labels: Tensor
    class_counts: Tensor
    none_scores: Sequence[Tensor | None]
    fits_of: Sequence[frozenset[Member]]
    fits: Callable[[int], Tensor]
    scaled: ScaledRows


class DerivedMethod(Method):
    """A method that makes something of other methods' fits; subclass it and implement both abstract methods.

    Attributes:
        cross_fit: Whether the rows of a threshold split are decided by what the *other* splits have taught, as nothing
            that is learnt can flatter itself then. A choice that is one for all splits says no.
    """

    cross_fit = True  # without a type, which jsonargparse would look up in the module of each subclass

    @property
    @abstractmethod
    def members(self) -> Sequence[Member]:
        """The fits whose logits it takes."""

    @property
    def score_scaling(self) -> Scaling | None:
        """Scaling of the embeddings that it is given; that of its first member unless a subclass says otherwise."""
        return None

    def learn(self, repeats: Sequence[MemberRows]) -> Learnt:
        """Learn from the validation rows of threshold splits; nothing unless a subclass says otherwise.

        Args:
            repeats: What the members say in each of the splits.
        """
        return {}

    @abstractmethod
    def combine(self, rows: MemberRows, learnt: Learnt) -> Tensor:
        """Return logits ``(rows, classes)``.

        Args:
            rows: What the members say.
            learnt: What :meth:`learn` returned.
        """

    def none_scores(self, rows: MemberRows, logits: Tensor, learnt: Learnt) -> Tensor | None:
        """Return scores of "none" in ``[0, 1]``, float ``(rows,)``; ``None`` for the paper's, one minus the confidence.

        Args:
            rows: What the members say.
            logits: What :meth:`combine` returned, as a study keeps it: rounded to float16.
            learnt: What :meth:`learn` returned.
        """
        return None

    def compared(self, repeats: Sequence[MemberRows]) -> list[dict[str, Any]]:
        """Return what it has chosen among, each with its ``score``; nothing unless a subclass chooses.

        Args:
            repeats: What the members say in each of the threshold splits.
        """
        return []

    def used(self, learnt: Learnt) -> Sequence[Member]:
        """The members that one classifier is made of; all of them unless a subclass chooses.

        Args:
            learnt: What :meth:`learn` returned.
        """
        return self.members

    def classifier(self, members: Sequence[Path], learnt: Learnt, data: EmbeddingDataModule) -> EmbeddingClassifier:
        """Make one classifier of this method, with its decision but for the threshold.

        Args:
            members: Checkpoints of the members that are :meth:`used`.
            learnt: What :meth:`learn` returned.
            data: The rows that the members were trained on.

        Raises:
            ConfigError: If there can be none, which is so unless a subclass says otherwise.
        """
        raise ConfigError(
            f"{type(self).__name__} does not say how its members become one classifier, so no checkpoint can be made "
            "of it: choose another method, or implement `classifier`"
        )


def pooled(repeats: Sequence[MemberRows]) -> tuple[list[Tensor], Tensor]:
    """Logits of each member, and labels, of the rows of all threshold splits, one split after another."""
    logits = [torch.cat(parts) for parts in zip(*(rows.logits for rows in repeats), strict=True)]
    return logits, torch.cat([rows.labels for rows in repeats])


def uncalibrated(checkpoint: Path) -> EmbeddingClassifier:
    """Load the classifier of a member whose logits are to be calibrated, or averaged with others.

    Raises:
        ConfigError: If it has a calibrator, which works on its logits alone.
    """
    model = EmbeddingClassifier.load_from_checkpoint(checkpoint, map_location="cpu")
    if model.decision.calibrator is not None:
        raise ConfigError(
            "a member is calibrated by itself, and one checkpoint calibrates once: derive the calibrated method from "
            "one that is not, and averages from such as well"
        )
    return model

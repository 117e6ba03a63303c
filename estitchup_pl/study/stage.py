"""What a stage of a study is: which rows its fits see, which fits it needs, and what is kept of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from estitchup_pl.data.splits import Split, SplitProtocol
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.store.labels import Rows
from estitchup_pl.study.building import Values
from estitchup_pl.study.config import StudyConfig
from estitchup_pl.study.curve import AccuracyCurve

if TYPE_CHECKING:
    from estitchup_pl.study.study import Study

Logits = npt.NDArray[np.float16]
"""Logits ``(rows, classes)`` as a study keeps them."""


def rounded(logits: Tensor) -> Logits:
    """Round logits as a study keeps them; what is beyond float16 and finite becomes its greatest, which is as sure.

    Example:
        >>> rounded(torch.tensor([[1e6, -1e6, float("inf"), 0.1]]))
        array([[ 6.55e+04, -6.55e+04,       inf,  1.00e-01]], dtype=float16)
    """
    most = torch.finfo(torch.float16).max
    values: Logits = torch.where(logits.isfinite(), logits.clamp(-most, most), logits).half().cpu().numpy()
    return values


DIVERGED = np.empty((0, 0), dtype=np.float16)
"""What stands for the logits of a fit that has diverged."""


@dataclass(frozen=True)
class Job:
    """One fit of a study, in plain values: with the configuration, all that a worker needs.

    Attributes:
        stage: What it is for.
        method: Name of a method that has fits of its own.
        trial: The trial.
        values: Chosen, or to be compared.
        number: Which of the fits that differ in their seed.
        division: Which of the divisions of the training rows it is fitted on, where its stage makes several.
        kept: Whether its classifier is kept, beside its logits.
    """

    stage: Stage
    method: str
    trial: int
    values: Values = field(default_factory=dict)
    number: int = 0
    division: int = 0
    kept: bool = False

    @property
    def name(self) -> str:
        """Name in messages."""
        values = "".join(f", {name} {value}" for name, value in self.values.items())
        numbers = {"fit": self.number, "division": self.division}
        which = "".join(f", {what} {number}" for what, number in numbers.items() if number)
        return f"{self.method}, trial {self.trial}, {self.stage.name}{values}{which}"


@dataclass(frozen=True)
class Fit:
    """What a job has given.

    Attributes:
        job: The job.
        logits: Logits of the rows that its stage evaluates; :data:`DIVERGED` if they are not finite.
        curve: Accuracies in the course of training, where the stage asked for them.
        model: The classifier that was fitted, if it is a network's.
    """

    job: Job
    logits: Logits
    curve: pa.Table | None = None
    model: EmbeddingClassifier | None = None

    @property
    def diverged(self) -> bool:
        """Whether the loss became infinite or NaN."""
        return self.logits.size == 0


class Stage(ABC):
    """One stage of the protocol: it says what is to be fitted, keeps what comes of it, and computes the rest.

    Attributes:
        name: Name in files and seeds.
        text: What it does, for a progress bar.
    """

    name: ClassVar[str]
    text: ClassVar[str]

    @abstractmethod
    def split(self, config: StudyConfig, outer: SplitProtocol, trial: int, division: int) -> SplitProtocol:
        """Return how the rows of a trial, whose split is ``outer``, are divided for this stage."""

    def divisions(self, config: StudyConfig) -> int:
        """How often it divides the training rows of a trial."""
        return 1

    def evaluated(self, parts: Split) -> Rows:
        """Rows whose logits a fit leaves."""
        return parts.val

    def epochs(self, config: StudyConfig) -> int:
        """Epochs of a fit."""
        return config.epochs

    @abstractmethod
    def jobs(self, study: Study) -> Iterable[Job]:
        """Fits that are not there yet."""

    def curve(self, study: Study, job: Job) -> AccuracyCurve | None:
        """What watches the fit of a network; nothing unless a stage says otherwise."""
        return None

    @abstractmethod
    def keep(self, study: Study, fit: Fit) -> None:
        """Write what a fit has given; fits of several processes come in any order."""

    def finish(self, study: Study) -> None:  # noqa: B027  # there may be nothing left to do
        """Compute what needs no fit."""


class FitStage(Stage):
    """A stage that keeps the logits of each fit."""

    @abstractmethod
    def labels(self, study: Study, trial: int, division: int) -> Tensor:
        """Class of the final fit, or ``NONE``, of the rows that a fit leaves logits of, int64 ``(rows,)``."""

    @abstractmethod
    def own_file(self, division: int) -> str:
        """Name of the file of a method's own logits on one division of the training rows."""

    @abstractmethod
    def scores_file(self, division: int) -> str:
        """Name of the file of a method's scores of "none" there, if it has any but the paper's."""

    def file(self, number: int, division: int = 0) -> str:
        """Name of the file of one of the fits that differ in their seed; number 0 is the method's own."""
        return f"members/{number}/{self.own_file(division)}" if number else self.own_file(division)


Reporter = Callable[[Stage, int, int], Callable[[int], None]]
"""Called when a stage begins, with its fits and the epochs of each; returns what to call as epochs pass."""


def silent(stage: Stage, fits: int, epochs: int) -> Callable[[int], None]:
    """Report nothing."""
    return lambda passed: None

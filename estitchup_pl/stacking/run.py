"""One run of a stack, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import lightning.pytorch as pl

from estitchup_pl.data.datamodule import EmbeddingDataModule
from estitchup_pl.model.classifier import EmbeddingClassifier

Watch = Callable[[int, EmbeddingClassifier], None]
"""Called with the number of epochs that have ended, and the classifier as it is then."""


@dataclass(eq=False)
class Run:
    """A training run: what would otherwise be a fit of its own.

    Attributes:
        name: Name in warnings and errors.
        model: Its classifier, not fitted yet. After the fit it is an ordinary fitted one on the CPU.
        data: Its data module. Runs whose data modules have one open store can be stacked.
        callbacks: Its own callbacks, in the order in which they change its batches.
        seed: Its seed.
        watch: Called after each of its epochs; changes nothing about the fit. The classifier may be on a GPU.
    """

    name: str
    model: EmbeddingClassifier
    data: EmbeddingDataModule
    callbacks: Sequence[pl.Callback] = field(default_factory=list)
    seed: int = 0
    watch: Watch | None = None


@dataclass(frozen=True)
class FittedRun:
    """A run that has ended.

    Attributes:
        run: The run; its classifier is an ordinary fitted one on the CPU.
        diverged: Whether its loss was no longer finite at the end of an epoch.
    """

    run: Run
    diverged: bool

"""One run of a stack, and the trainer as that run sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EarlyStopping

from estitchup_pl.data.datamodule import EmbeddingDataModule
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.seeding import run_seed


@dataclass(eq=False)
class Run:
    """A training run: what would otherwise be a fit of its own.

    Attributes:
        name: Name in logs, warnings and errors, unique within a stack.
        model: Its classifier, not fitted yet. After the fit it is an ordinary fitted one.
        data: Its data module. All runs of a stack share one store and the same modalities.
        callbacks: Its own callbacks, in the order in which they change its batches.
        seed: Its seed; the run draws what a fit after ``seed_everything(seed)`` would have drawn.
        trainer: The trainer as this run sees it, while it is attached to one.
    """

    name: str
    model: EmbeddingClassifier
    data: EmbeddingDataModule
    callbacks: Sequence[pl.Callback] = field(default_factory=list)
    seed: int = 0
    trainer: RunTrainer = field(init=False, repr=False)

    def attach(self, trainer: pl.Trainer) -> None:
        """Let model and data see the stack's trainer as their own.

        What the model logs gets the run's name, and goes to Lightning where there is a logger to take it: a value
        costs Lightning as much as a training step on small data.
        """
        self.trainer = RunTrainer(trainer, self)
        self.data.trainer = self.model.trainer = self.trainer  # type: ignore[assignment]

        def log(name: str, value: Any, *args: Any, **kwargs: Any) -> None:
            self.trainer.callback_metrics[name] = value
            if trainer.loggers:
                trainer.lightning_module.log(f"{self.name}/{name}", value, *args, **kwargs)

        self.model.log = log  # type: ignore[method-assign]

    def detach(self) -> None:
        """Make model and data ordinary ones, as before :meth:`attach`."""
        self.data.trainer = self.model.trainer = None
        del self.model.log

    def call(self, hook: str, *args: Any) -> None:
        """Call a hook of the callbacks, then that of the model; early stopping comes last, as under Lightning."""
        stopping = [callback for callback in self.callbacks if isinstance(callback, EarlyStopping)]
        others = [callback for callback in self.callbacks if callback not in stopping]
        with run_seed(self.seed):
            for callback in others:
                getattr(callback, hook)(self.trainer, self.model, *args)
            getattr(self.model, hook)(*args)
            for callback in stopping:
                getattr(callback, hook)(self.trainer, self.model, *args)


class RunTrainer:
    """The trainer as one run of a stack sees it: the stack's own, but for what belongs to the run.

    Args:
        trainer: Trainer of the stack.
        run: The run.

    Attributes:
        should_stop: A callback sets it to end this run after the epoch; the others go on.
        callback_metrics: What this run has logged, by the names it logged it under.
    """

    def __init__(self, trainer: pl.Trainer, run: Run) -> None:
        self._trainer = trainer
        self.lightning_module = run.model
        self.datamodule = run.data
        self.callbacks = list(run.callbacks)
        self.num_training_batches = 0
        self.should_stop = False
        self.callback_metrics: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trainer, name)

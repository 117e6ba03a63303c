"""The fits of one stage, stacked, and the logits that each leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from estitchup_pl.errors import ConfigError
from estitchup_pl.model.inputs import side_by_side
from estitchup_pl.model.scaling import ModalityScaling
from estitchup_pl.stacking import Run, fit_runs
from estitchup_pl.store.labels import Rows
from estitchup_pl.study.baselines import estimator_logits, fit_estimator
from estitchup_pl.study.config import StudyConfig
from estitchup_pl.study.methods import Values, build_callbacks, build_estimator
from estitchup_pl.study.trials import Stage, Trials

Logits = npt.NDArray[np.float16]

RUNS_AT_HAND = 60
"""Runs that are made at once; each holds what it knows of the store's rows."""

ROWS_AT_ONCE = 4096
"""Rows that are read and predicted at once."""


@dataclass(frozen=True)
class Job:
    """One fit of a study.

    Attributes:
        stage: What it is for.
        method: Name of the method.
        trial: The trial.
        values: Chosen, or to be compared.
        number: Division of the training rows in selection, else member of an ensemble.
        callbacks: Further callbacks, which change nothing about the fit.
    """

    stage: Stage
    method: str
    trial: int
    values: Values = field(default_factory=dict)
    number: int = 0
    callbacks: Sequence[pl.Callback] = ()

    @property
    def division(self) -> int:
        """Which of the divisions of the training rows it is fitted on."""
        return self.number if self.stage == "selection" else 0

    @property
    def name(self) -> str:
        """Name in messages."""
        values = "".join(f", {name} {value:g}" for name, value in self.values.items())
        number = f", {self.number}" if self.number else ""
        return f"{self.method}, trial {self.trial}, {self.stage}{values}{number}"


@dataclass(frozen=True)
class Fitter:
    """Fits jobs and hands over the logits of each.

    Args:
        config: The study.
        trials: Its rows.
        done: Called with each job when its stack has ended, and its logits on the rows that its stage evaluates
            (:meth:`rows`), ``None`` if it has diverged.
        tick: Called with the number of epochs that have passed, summed over jobs.
    """

    config: StudyConfig
    trials: Trials
    done: Callable[[Job, Logits | None], None]
    tick: Callable[[int], None] = lambda epochs: None

    def fit(self, jobs: Sequence[Job], epochs: int) -> None:
        """Fit all jobs of a stage; what has ended is handed over before the next stack begins."""
        networks = [job for job in jobs if self.config.source(job.method).estimator is None]
        for start in range(0, len(networks), RUNS_AT_HAND):
            self._fit_networks(networks[start : start + RUNS_AT_HAND], epochs)
        for job in jobs:
            if self.config.source(job.method).estimator is not None:
                self.done(job, self._fit_estimator(job))
                self.tick(epochs)

    def rows(self, job: Job) -> Rows:
        """Rows whose logits a job leaves: the validation rows, or the test rows of a final fit."""
        parts = self.trials.parts(job.stage, job.trial, job.division)
        return parts.test if job.stage == "final" else parts.val

    def _fit_networks(self, jobs: Sequence[Job], epochs: int) -> None:
        runs = {job.name: (job, self._run(job)) for job in jobs}

        fitted = fit_runs(
            [run for _, run in runs.values()],
            epochs,
            stack_size=self.config.stack_size,
            accelerator=self.config.accelerator,
            precision=self.config.precision,
        )
        for run, diverged in ((one.run, one.diverged) for one in fitted):
            job, _ = runs.pop(run.name)
            logits = None if diverged else self._predict(job, run.model.eval().logits)
            run.data.reader = None
            # A finite loss may still leave logits that are not.
            self.done(job, logits if logits is not None and np.isfinite(logits).all() else None)

    def _run(self, job: Job) -> Run:
        method = self.config.source(job.method)
        callbacks = [*build_callbacks(job.method, method, job.values), *job.callbacks, _Ticks(self.tick)]
        data = self.trials.data(job.stage, job.trial, job.division)
        seed = self.trials.seed(job.stage, job.trial, job.number)
        return Run(job.name, self.trials.classifier(), data, callbacks, seed)

    def _fit_estimator(self, job: Job) -> Logits:
        method = self.config.source(job.method)
        data = self.trials.data(job.stage, job.trial, job.division)
        data.setup("fit")
        train, scaling = data.parts.train, cast(Any, self.config.scaling)
        scale = ModalityScaling(data.modalities, scaling)
        scale.fit(data.moments)

        def scaled(rows: Mapping[str, npt.NDArray[Any]]) -> Tensor:
            return scale(side_by_side(rows, data.modalities))  # type: ignore[no-any-return]

        try:
            fitted = fit_estimator(
                build_estimator(job.method, method, job.values),
                scaled(self.trials.gather(train)),
                torch.from_numpy(self.trials.label_index(train, list(data.class_names))),
                build_callbacks(job.method, method, job.values),
                method.copies,
                self.trials.seed(job.stage, job.trial, job.number),
            )
        except ConfigError as error:
            raise ConfigError(f"methods.{job.method}: {error}") from error
        return self._predict(job, lambda rows: torch.from_numpy(estimator_logits(fitted, scaled(rows).numpy())))

    def _predict(self, job: Job, model: Callable[[Mapping[str, npt.NDArray[Any]]], Tensor]) -> Logits:
        """Logits of a model that takes embeddings as the store has them."""
        rows = self.rows(job)
        parts = []
        with torch.inference_mode():
            for start in range(0, len(rows), ROWS_AT_ONCE):
                embeddings = self.trials.gather(rows[start : start + ROWS_AT_ONCE])
                parts.append(model(embeddings).float().numpy().astype(np.float16))
        return np.concatenate(parts)


class _Ticks(pl.Callback):
    """Counts epochs for a progress bar."""

    def __init__(self, tick: Callable[[int], None]) -> None:
        self._tick = tick

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._tick(1)

"""The fits of one stage, and the logits that each leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.inputs import side_by_side
from estitchup_pl.stacking import Run, fit_runs
from estitchup_pl.stacking.device import device_of, one_thread
from estitchup_pl.stacking.fit import affordable
from estitchup_pl.store.labels import Rows
from estitchup_pl.study.building import told
from estitchup_pl.study.curve import AccuracyCurve
from estitchup_pl.study.methods import NetworkMethod, RowsMethod, TrainingRows
from estitchup_pl.study.stage import DIVERGED, Fit, Job, Logits, Stage, rounded
from estitchup_pl.study.study import Study
from estitchup_pl.study.trials import Trials

RUNS_AT_HAND = 60
"""Fits of a batch at most; each run that is made holds what it knows of the store's rows."""

ROWS_AT_ONCE = 4096
"""Rows that are read and predicted at once."""

Tick = Callable[[int], None]
"""Called with the number of epochs that have passed, summed over jobs."""


def batches(study: Study, stage: Stage, jobs: Sequence[Job], workers: int = 1) -> list[list[Job]]:
    """Put together what is fitted at once: networks in stacks of what pays on the device, all others alone.

    On a CPU the batches do not depend on the number of workers, and so neither do the results.

    Args:
        study: The study.
        stage: The stage.
        jobs: What to fit.
        workers: Processes that share them.
    """
    networks = [job for job in jobs if isinstance(study.methods[job.method], NetworkMethod)]
    size = _stack_size(study, stage, networks, workers) if networks else 1
    stacks = [networks[start : start + size] for start in range(0, len(networks), size)]
    return stacks + [[job] for job in jobs if isinstance(study.methods[job.method], RowsMethod)]


def _stack_size(study: Study, stage: Stage, networks: Sequence[Job], workers: int) -> int:
    given, device = study.config.stack_size, device_of(study.config.accelerator)
    first = first_run(study, stage, networks)
    size = affordable(first, device) if given == "auto" and first else RUNS_AT_HAND if given == "auto" else given
    return min(RUNS_AT_HAND, size) if device.type == "cpu" else min(RUNS_AT_HAND, size, -(-len(networks) // workers))


def first_run(study: Study, stage: Stage, jobs: Sequence[Job]) -> Run | None:
    """Make the first of the jobs that trains a network, to see how large it is; ``None`` if none does."""
    for job in jobs:
        if isinstance(method := study.method(job.method, job.values), NetworkMethod):
            return _make_run(study, stage, job, method)
    return None


def fit_and_keep(study: Study, stage: Stage, batch: Sequence[Job], tick: Tick = lambda epochs: None) -> None:
    """Fit the jobs of a batch and write what they give; on a CPU with one thread, whatever the process has.

    Args:
        study: The study.
        stage: Its stage.
        batch: What to fit at once, see :func:`batches`.
        tick: Told of the epochs that pass.
    """
    is_cpu = device_of(study.config.accelerator).type == "cpu"
    with one_thread() if is_cpu else nullcontext():
        for fit in fitted(study, stage, batch, tick):
            stage.keep(study, fit)


def fitted(study: Study, stage: Stage, jobs: Sequence[Job], tick: Tick = lambda epochs: None) -> Iterator[Fit]:
    """Fit jobs of one stage: networks in stacks, then all others one by one.

    Args:
        study: The study.
        stage: The stage.
        jobs: What to fit.
        tick: Told of the epochs that pass.

    Returns:
        Generator of what each job has given, in no order; the next fits begin when it is asked for more.
    """
    methods = {job.name: study.method(job.method, job.values) for job in jobs}
    networks = [(job, method) for job in jobs if isinstance(method := methods[job.name], NetworkMethod)]
    if networks:
        yield from _fit_networks(study, stage, networks, tick)
    for job in jobs:
        if isinstance(method := methods[job.name], RowsMethod):
            with told(f"methods.{job.method}"):
                yield _fit_rows(study, stage, job, method)
            tick(stage.epochs(study.config))


def _fit_networks(
    study: Study, stage: Stage, networks: Sequence[tuple[Job, NetworkMethod]], tick: Tick
) -> Iterator[Fit]:
    jobs, runs = {}, []
    for job, method in networks:
        curve = stage.curve(study, job)
        run = _make_run(study, stage, job, method)
        run.watch = partial(_watch, curve, tick)
        runs.append(run)
        jobs[job.name] = (job, curve)
    config = study.config
    options: dict[str, Any] = {"accelerator": config.accelerator, "precision": config.precision}
    for one in fit_runs(runs, stage.epochs(config), stack_size=config.stack_size, **options):
        job, curve = jobs.pop(one.run.name)
        rows = study.trials.division(stage, job.trial, job.division).evaluated
        logits = DIVERGED if one.diverged else _predict(study.trials, rows, one.run.model.eval().logits)
        one.run.data.reader = None
        yield _fit(job, logits, curve, one.run.model)


def _make_run(study: Study, stage: Stage, job: Job, method: NetworkMethod) -> Run:
    data = study.trials.data(study.trials.division(stage, job.trial, job.division), method.batch_size)
    return Run(job.name, method.make_model(), data, [make() for make in method.callbacks], study.seed(job))


def _fit_rows(study: Study, stage: Stage, job: Job, method: RowsMethod) -> Fit:
    trials, division = study.trials, study.trials.division(stage, job.trial, job.division)
    data, model = trials.data(division), method.scaled_by(study.config.build_model())
    model.describe_data(division.class_names, data.modalities, data.moments)

    def scaled(embeddings: Mapping[str, npt.NDArray[Any]]) -> Tensor:
        joined: Tensor = model.scale(side_by_side(embeddings, data.modalities))
        return joined

    labels = torch.from_numpy(trials.labels.index(division.class_names)[division.train])
    rows = TrainingRows(scaled(trials.gather(division.train)), labels, tuple(division.class_names))
    predict = method.fit(rows, study.seed(job))
    return _fit(job, _predict(trials, division.evaluated, lambda embeddings: predict(scaled(embeddings))))


def _fit(job: Job, logits: Logits, curve: AccuracyCurve | None = None, model: EmbeddingClassifier | None = None) -> Fit:
    # A finite loss may still leave logits that are not.
    return Fit(job, logits if np.isfinite(logits).all() else DIVERGED, curve.table() if curve else None, model)


def _predict(trials: Trials, rows: Rows, model: Callable[[Mapping[str, npt.NDArray[Any]]], Tensor]) -> Logits:
    """Logits of a model that takes embeddings as the store has them, by modality."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), ROWS_AT_ONCE):
            logits = model(trials.gather(rows[start : start + ROWS_AT_ONCE]))
            parts.append(rounded(logits))
    return np.concatenate(parts)


def _watch(curve: AccuracyCurve | None, tick: Tick, epoch: int, model: EmbeddingClassifier) -> None:
    if curve is not None:
        curve.watch(epoch, model)
    tick(1)

"""Fitting a list of runs in stacks of a size that pays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import lightning.pytorch as pl
import psutil
import torch

from estitchup_pl.errors import ConfigError
from estitchup_pl.stacking.classifier import StackedClassifier
from estitchup_pl.stacking.data import StackedDataModule
from estitchup_pl.stacking.run import Run

CPU_WEIGHTS = 8_000_000
"""Weights of all runs that one fit on a CPU takes: more only crowd its caches."""

MEMORY_SHARE = 0.5
"""Share of the free memory that a stack may take."""


@dataclass(frozen=True)
class FittedRun:
    """A run that has ended.

    Attributes:
        run: The run; its classifier is an ordinary fitted one on the CPU.
        diverged: Whether its loss was no longer finite at the end of an epoch.
    """

    run: Run
    diverged: bool


def fit_runs(
    runs: Sequence[Run],
    max_epochs: int,
    *,
    stack_size: int | Literal["auto"] = "auto",
    accelerator: str = "auto",
    devices: int | str = 1,
    precision: Any = "32-true",
) -> Iterator[FittedRun]:
    """Fit runs in stacks; run by run the result is that of a fit of its own.

    Args:
        runs: The runs, see :class:`Run`.
        max_epochs: Epochs of each.
        stack_size: Runs that are fitted at once; ``"auto"`` takes what pays on the device and fits its memory.
        accelerator: As for :class:`lightning.pytorch.Trainer`.
        devices: As for :class:`lightning.pytorch.Trainer`.
        precision: As for :class:`lightning.pytorch.Trainer`.

    Returns:
        Generator of the runs, each as soon as its stack has ended; the next stack begins when it is asked for more.

    Raises:
        ConfigError: If ``stack_size`` is less than one, or the runs cannot be stacked.
    """
    if stack_size != "auto" and stack_size < 1:
        raise ConfigError(f'stack_size must be at least 1, or "auto", got {stack_size}')
    return _fit_stacks(
        runs, stack_size, max_epochs=max_epochs, accelerator=accelerator, devices=devices, precision=precision
    )


def _fit_stacks(runs: Sequence[Run], stack_size: int | Literal["auto"], **options: Any) -> Iterator[FittedRun]:
    # Runs of like length side by side, so that few wait for others at the end of an epoch.
    waiting = sorted(runs, key=lambda run: len(run.data.parts.train))
    while waiting:
        trainer = pl.Trainer(
            **options,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        size = _affordable(waiting[0], trainer) if stack_size == "auto" else stack_size
        stack, waiting = waiting[:size], waiting[size:]
        model = StackedClassifier(stack)
        trainer.fit(model, StackedDataModule(stack))
        for run in stack:
            yield FittedRun(run, run.name in model.diverged)


def _affordable(run: Run, trainer: pl.Trainer) -> int:
    """Estimate how many runs like this one the device takes at once."""
    device = trainer.strategy.root_device
    classes = len(run.data.labels.present(run.data.parts.train))
    dim = sum(run.data.modalities.values())
    with torch.device("meta"):
        weights = sum(weight.numel() for weight in run.model.build_network(dim, classes).parameters())
    # Weights, gradients, two moments and the products of a step; a batch and what mixing makes of it.
    needed = 4 * (6 * weights + 6 * run.data.batch_size * dim)
    if device.type == "cuda":
        return max(1, int(MEMORY_SHARE * torch.cuda.mem_get_info(device)[0] / needed))
    return max(1, min(CPU_WEIGHTS // weights, int(MEMORY_SHARE * psutil.virtual_memory().available / needed)))

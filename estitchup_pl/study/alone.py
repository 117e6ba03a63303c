"""Fits of runs that cannot be stacked, or not with one another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import lightning.pytorch as pl
import torch

from estitchup_pl.errors import ConfigError
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.seeding import run_seed
from estitchup_pl.stacking import FittedRun, Run, fit_runs
from estitchup_pl.stacking.network import StackedNetwork


def fit_any_runs(
    runs: Sequence[Run], max_epochs: int, *, stack_size: int | Literal["auto"] = "auto", **options: Any
) -> Iterator[FittedRun]:
    """Fit runs, those of like networks in stacks, and those that no stack takes by themselves.

    Args:
        runs: The runs.
        max_epochs: Epochs of each.
        stack_size: As for :func:`~estitchup_pl.stacking.fit_runs`.
        options: Likewise.
    """
    alike: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        alike[_layers(run)].append(run)
    for run in alike.pop("", []):
        yield _fit_alone(run, max_epochs, **options)
    for stackable in alike.values():
        yield from fit_runs(stackable, max_epochs, stack_size=stack_size, **options)


def _layers(run: Run) -> str:
    """What the networks of a stack have in common; nothing for a run that no stack takes."""
    if type(run.model).training_step is not EmbeddingClassifier.training_step:
        return ""
    with torch.device("meta"):
        network = run.model.build_network(sum(run.data.modalities.values()), 2)
        try:
            StackedNetwork([network])
        except ConfigError:
            return ""
    return f"{network} {[tuple(weight.shape) for weight in network.parameters()]}"


def _fit_alone(run: Run, max_epochs: int, **options: Any) -> FittedRun:
    trainer = pl.Trainer(
        max_epochs=max_epochs,
        devices=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(run.callbacks),
        **options,
    )
    with run_seed(run.seed):
        trainer.fit(run.model, run.data)
    run.model.cpu()
    return FittedRun(run, not bool(trainer.callback_metrics["train/loss"].isfinite()))

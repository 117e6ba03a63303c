"""Learning rate schedules: one stated in epochs, and what only the trainer can tell to those of PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from estitchup_pl.errors import ConfigError


class TriangularCycle(CyclicLR):
    """Linear cycle ``base_lr → max_lr → base_lr`` over ``cycle_epochs`` epochs, stepped every batch (Sec. 3.4).

    PyTorch's ``CyclicLR`` counts in batches, of which a scheduler built from YAML knows nothing;
    :meth:`set_steps_per_epoch` is called by the classifier once Lightning knows.

    Args:
        optimizer: The optimizer whose learning rate is driven; the one it was built with is overridden.
        base_lr: Lowest learning rate, at the start of each cycle.
        max_lr: Highest learning rate, halfway through each cycle.
        cycle_epochs: Length of a cycle in epochs.
        steps_per_epoch: Batches an epoch has.

    Raises:
        ConfigError: If the rates are not ``0 < base_lr <= max_lr`` or the cycle is not positive.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        >>> schedule = TriangularCycle(optimizer, 0.1, 0.3, cycle_epochs=4, steps_per_epoch=1)
        >>> rates = []
        >>> for _ in range(5):
        ...     rates.append(round(schedule.get_last_lr()[0], 4))
        ...     optimizer.step()
        ...     schedule.step()
        >>> rates
        [0.1, 0.2, 0.3, 0.2, 0.1]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float = 3e-4,
        max_lr: float = 3e-3,
        cycle_epochs: float = 12,
        steps_per_epoch: int = 1,
    ) -> None:
        if not 0 < base_lr <= max_lr:
            raise ConfigError(f"expected 0 < base_lr <= max_lr, got base_lr={base_lr}, max_lr={max_lr}")
        if cycle_epochs <= 0:
            raise ConfigError(f"cycle_epochs must be positive, got {cycle_epochs}")
        self.cycle_epochs = cycle_epochs
        half = cycle_epochs * steps_per_epoch / 2
        super().__init__(optimizer, base_lr, max_lr, step_size_up=half, cycle_momentum=False)  # type: ignore[arg-type]

    def set_steps_per_epoch(self, steps_per_epoch: int) -> None:
        """Stretch the cycle to epochs of ``steps_per_epoch`` batches, before the first step is taken."""
        self.total_size = self.cycle_epochs * steps_per_epoch  # type: ignore[assignment]  # need not be whole


def build_schedule(build: Callable[..., LRScheduler], optimizer: Optimizer, trainer: pl.Trainer) -> LRScheduler:
    """Build a schedule; one that has to know the length of the fit, such as ``OneCycleLR``, is told.

    Args:
        build: Called with the optimizer, and with ``total_steps`` where it fails without.
        optimizer: The optimizer.
        trainer: Knows how many steps there are.

    Raises:
        ConfigError: If the schedule has to know, and the fit has no end of its own.
    """
    try:
        return build(optimizer)
    except ValueError as error:
        if "total_steps" not in str(error):
            raise
    steps = trainer.estimated_stepping_batches
    if not 0 < steps < math.inf:
        raise ConfigError(
            "the learning rate schedule needs to know how long the fit is: set trainer.max_epochs or trainer.max_steps"
        )
    return build(optimizer, total_steps=int(steps))


def lightning_schedule(scheduler: LRScheduler, trainer: pl.Trainer) -> dict[str, Any]:
    """Say when Lightning is to step a schedule, and on what it depends.

    Cyclic and one-cycle schedules step every batch, all others every epoch. ``ReduceLROnPlateau`` steps when there is
    a new value of what it watches: ``val/loss``, or ``train/loss`` where nothing is validated, unless it names another.
    """
    every_batch = isinstance(scheduler, CyclicLR | OneCycleLR)
    plan: dict[str, Any] = {"scheduler": scheduler, "interval": "step" if every_batch else "epoch"}
    if isinstance(scheduler, ReduceLROnPlateau):
        validates = bool(trainer.limit_val_batches)
        watched = vars(scheduler).get("monitor", "val/loss" if validates else "train/loss")  # Lightning's own has one
        plan["monitor"] = watched
        if validates and watched.startswith("val/"):
            plan["frequency"] = trainer.check_val_every_n_epoch or 1
    return plan

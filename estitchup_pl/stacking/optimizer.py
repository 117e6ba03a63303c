"""AdamW for all runs as one optimizer, whose every setting is a tensor over runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from estitchup_pl.stacking.recipe import OptimizerRecipe, Recipe

Settings = npt.NDArray[np.float64]
"""What each run's step is made of, ``(steps, 8, runs)``, see :func:`settings_of_epoch`."""

Update = Callable[..., None]


def settings_of_epoch(
    recipes: Sequence[Recipe], steps: Sequence[int], epoch: int, running: Collection[int]
) -> Settings:
    """Settings of each step of an epoch; those of a run that takes no part change nothing.

    Args:
        recipes: Recipe of each run.
        steps: Steps that an epoch of each run has.
        epoch: Number of the epoch.
        running: Runs that still train.

    Returns:
        ``(steps, 8, runs)``: learning rate, weight decay, 1 less each beta, epsilon, both bias corrections, and the
        number of the step, counted from 1.
    """
    settings = np.zeros((max(steps), 8, len(recipes)))
    settings[:, 4:] = 1.0
    for run in running:
        settings[: steps[run], :, run] = _settings_of_run(recipes[run].optimizer, steps[run], epoch)
    return settings


@lru_cache(maxsize=64)
def _settings_of_run(own: OptimizerRecipe, count: int, epoch: int) -> Settings:
    step = np.arange(epoch * count + 1, epoch * count + count + 1)
    fixed = np.broadcast_to([own.weight_decay, 1 - own.betas[0], 1 - own.betas[1], own.eps], (count, 4))
    corrections = 1 - np.array(own.betas) ** step[:, None]
    return np.column_stack([own.rates(epoch, count), fixed, corrections, step])


def adamw(
    weights: Sequence[Tensor],
    gradients: Sequence[Tensor],
    means: Sequence[Tensor],
    squares: Sequence[Tensor],
    settings: Tensor,
) -> None:
    """One step of AdamW on stacked weights, in place.

    A run whose learning rate and shares of a gradient in its moments are 0 keeps everything as it is.

    Args:
        weights: Each ``(runs, in, out)``.
        gradients: Their gradients, laid out as they are.
        means: First moments, changed in place.
        squares: Second moments, changed in place.
        settings: ``(8, runs)``, see :func:`settings_of_epoch`.
    """
    rate, decay, share1, share2, eps, correction1, correction2, _ = settings[..., None, None].unbind()
    for weight, gradient, mean, square in zip(weights, gradients, means, squares, strict=True):
        mean.lerp_(gradient, share1)
        square.lerp_(gradient.square(), share2)
        change = mean / correction1 / ((square / correction2).sqrt() + eps)
        weight.copy_(weight * (1 - rate * decay) - rate * change)


class StackedAdamW:
    """Steps the weights of all runs.

    Args:
        weights: Each ``(runs, in, out)``.
        steps: Steps that the longest epoch has.
        update: :func:`adamw`, or what a compiler has made of it.
    """

    def __init__(self, weights: Sequence[Tensor], steps: int, update: Update = adamw) -> None:
        self._update = update
        self._weights = weights
        self._means = [torch.zeros_like(weight) for weight in weights]
        self._squares = [torch.zeros_like(weight) for weight in weights]
        self._table = torch.zeros(steps, 8, weights[0].shape[0], device=weights[0].device)
        self._settings: Settings = np.zeros(())
        self._step = np.zeros(0)

    def begin_epoch(self, settings: Settings) -> None:
        """Take the settings of an epoch."""
        self._settings = settings
        # On a CPU one fused kernel steps all runs that are at the same point of the same schedule.
        self._is_uniform = (settings == settings[..., :1]).all(axis=(1, 2)) & (settings[:, 0, 0] > 0)
        self._table[: len(settings)].copy_(torch.from_numpy(settings))

    def step(self, step: Tensor, gradients: Sequence[Tensor]) -> None:
        """Step with the settings of step ``step`` of the epoch, an int64 scalar on the device."""
        if step.is_cpu and self._is_uniform[int(step)]:
            self._step_fused(self._settings[int(step), :, 0], gradients)
        else:
            self._update(
                self._weights,
                gradients,
                self._means,
                self._squares,
                self._table.index_select(0, step.view(1)).squeeze(0),
            )

    def _step_fused(self, settings: npt.NDArray[np.float64], gradients: Sequence[Tensor]) -> None:
        rate, decay, share1, share2, eps, _, _, number = settings.tolist()
        step = torch.tensor(number)
        torch._fused_adamw_(
            list(self._weights),
            [gradient.contiguous() for gradient in gradients],
            self._means,
            self._squares,
            [],
            [step] * len(self._weights),
            lr=rate,
            beta1=1 - share1,
            beta2=1 - share2,
            weight_decay=decay,
            eps=eps,
            amsgrad=False,
            maximize=False,
        )

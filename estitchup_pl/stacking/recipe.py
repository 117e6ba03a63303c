"""What a run is made of, in numbers that stack; ``None`` for a run that a program cannot know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.optim import AdamW

from estitchup_pl.callbacks import EmbeddingAugmentation, EMixup, EStitchup, LabelSoftening
from estitchup_pl.data.datamodule import EmbeddingDataModule
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.networks import KeyedDropout, SoftTargetBCE, StackedLinear
from estitchup_pl.model.scaling import UNIT_LENGTH, ModalityScaling
from estitchup_pl.model.schedules import TriangularCycle
from estitchup_pl.stacking.run import Run

Floats = npt.NDArray[np.float64]

MIXERS: tuple[type[EmbeddingAugmentation] | None, ...] = (None, EMixup, EStitchup)
"""Ways to mix that are part of a program, in the order that runs have in it."""

POINTWISE = (nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.ELU, nn.Tanh, nn.Identity)
"""Layers without weights that treat each value by itself, and so need to know nothing of stacks."""


@dataclass(frozen=True)
class OptimizerRecipe:
    """AdamW and its schedule.

    Attributes:
        betas: Decay rates of AdamW's moments.
        eps: AdamW's epsilon.
        weight_decay: AdamW's decoupled weight decay.
        lr: Learning rate, lowest and highest.
        cycle_epochs: Epochs of a triangular cycle; ``None`` for a constant rate.
    """

    betas: tuple[float, float]
    eps: float
    weight_decay: float
    lr: tuple[float, float]
    cycle_epochs: float | None

    def rates(self, epoch: int, steps: int) -> Floats:
        """Learning rates of the steps of an epoch, those of a :class:`TriangularCycle`, ``(steps,)``."""
        low, high = self.lr
        if self.cycle_epochs is None:
            return np.full(steps, high)
        x = np.arange(epoch * steps, (epoch + 1) * steps) / (self.cycle_epochs * steps)
        x = x - np.floor(x)
        return low + (high - low) * np.where(x <= 0.5, 2 * x, 2 - 2 * x)


@dataclass(frozen=True)
class Recipe:
    """How one run trains.

    Attributes:
        mixer: Position in :data:`MIXERS`.
        alpha: Parameter of the Beta distribution of its shares; 1 where nothing is mixed.
        softness: Value that softening subtracts; ``None`` where nothing is softened.
        optimizer: Its optimizer and schedule.
        shape: What runs of one program have in common: layers, batch, store, modalities and their scaling.
    """

    mixer: int
    alpha: float
    softness: float | None
    optimizer: OptimizerRecipe
    shape: tuple[Any, ...]


def read_recipe(run: Run) -> Recipe | None:
    """Find out how a run trains.

    Returns:
        ``None`` if anything about it is of a class that a program does not know, a subclass included.
    """
    model, data = run.model, run.data
    mixing = _read_callbacks(run.callbacks)
    training = _read_training(model)
    known = (
        type(model) is EmbeddingClassifier and type(data) is EmbeddingDataModule and type(model.loss) is SoftTargetBCE
    )
    if not known or mixing is None or training is None or data.cache == "off" or model.class_names:
        return None
    layers = _read_layers(model.build_network, sum(data.modalities.values()))
    if layers is None:
        return None
    kinds = ModalityScaling(data.modalities, model.scaling).kinds
    scaled = [(name, kind) for name, kind in kinds.items() if kind in UNIT_LENGTH]
    shape = (layers, data.batch_size, id(data.store), tuple(data.modalities), *scaled)
    return Recipe(*mixing, training, shape)


def _read_callbacks(callbacks: Sequence[pl.Callback]) -> tuple[int, float, float | None] | None:
    """Mixer, alpha and softness."""
    mixer, alpha, softness = 0, 1.0, None
    kinds = [type(callback) for callback in callbacks]
    if kinds not in (
        [],
        [EMixup],
        [EStitchup],
        [LabelSoftening],
        [EMixup, LabelSoftening],
        [EStitchup, LabelSoftening],
    ):
        return None
    for callback in callbacks:
        if isinstance(callback, EmbeddingAugmentation):
            mixer, alpha = MIXERS.index(type(callback)), callback.alpha
        elif isinstance(callback, LabelSoftening):
            softness = callback.softness
    return mixer, alpha, softness


def _read_training(model: EmbeddingClassifier) -> OptimizerRecipe | None:
    optimizer = model.build_optimizer([nn.Parameter(torch.zeros(1))])
    schedule = model.build_lr_scheduler(optimizer) if model.build_lr_scheduler else None
    if type(optimizer) is not AdamW or type(schedule) not in (TriangularCycle, type(None)):
        return None
    (group,) = optimizer.param_groups
    if group["amsgrad"] or group["maximize"]:
        return None
    low, high, cycle_epochs = group["lr"], group["lr"], None
    if isinstance(schedule, TriangularCycle):
        low, high, cycle_epochs = schedule.base_lrs[0], schedule.max_lrs[0], schedule.cycle_epochs
    lr = float(low), float(high)
    return OptimizerRecipe(tuple(group["betas"]), group["eps"], group["weight_decay"], lr, cycle_epochs)


def _read_layers(build_network: Any, dim: int) -> tuple[Any, ...] | None:
    with torch.device("meta"):
        network = build_network(dim, 2)
    if type(network).forward is not nn.Sequential.forward:
        return None
    layers = []
    for layer in network:
        if type(layer) not in (StackedLinear, KeyedDropout, *POINTWISE):
            return None
        shape = tuple(layer.weight.shape) if isinstance(layer, StackedLinear) else ()
        layers.append((type(layer), layer.extra_repr(), shape))
    return tuple(layers) if layers and layers[-1][0] is StackedLinear else None

"""The training of many runs as one program: how many there are changes the size of its tensors, not their number."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from estitchup_pl.functional.random_bits import level_words, random_words, to_levels
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.seeding import stream_key
from estitchup_pl.stacking.compiling import Compile, captured, choose_compile, compiled
from estitchup_pl.stacking.mixing import StackMixing
from estitchup_pl.stacking.network import StackedNetwork
from estitchup_pl.stacking.optimizer import StackedAdamW, adamw, settings_of_epoch
from estitchup_pl.stacking.recipe import Recipe
from estitchup_pl.stacking.rows import EpochBatches, StackRows, draw_epoch
from estitchup_pl.stacking.run import Run


class Program:
    """Trains the networks of all runs, batch by batch.

    Args:
        runs: The runs, in the order of their recipes' mixers; their classifiers have networks.
        recipes: Recipe of each, all of one shape.
        device: Where to train.
        autocast: Makes the context of the forward pass, for products in 16 bits.
        compile: What to make of a step, see :mod:`~estitchup_pl.stacking.compiling`.

    Attributes:
        steps: Batches that an epoch of each run has.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        recipes: Sequence[Recipe],
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
        compile: Compile = "auto",
    ) -> None:
        compile = choose_compile(compile, device)
        self._recipes = recipes
        self._device = device
        self._autocast = autocast
        self._data = StackRows.gather(runs, device)
        self.steps = [-(-count // self._data.batch_size) for count in self._data.count.tolist()]
        self._network = StackedNetwork([run.model.network for run in runs], device)  # type: ignore[misc]
        for weight in self._network.weights:
            weight.requires_grad_()
        self._classes = torch.tensor([len(run.model.class_names) for run in runs], device=device)
        scales = [run.model.scale for run in runs]
        self._mixing = StackMixing(recipes, scales, self._data.embeddings, self._classes, self._mixing_dtype())
        self._optimizer = StackedAdamW(self._network.weights, max(self.steps), compiled(adamw, compile))
        self._shuffle_key, self._pairs_key, self._stitch_key, self._dropout_key = (
            torch.tensor([stream_key(run.seed, purpose) for run in runs], device=device)
            for purpose in ("shuffle", "pairs", "stitch", "dropout")
        )
        self._epoch = torch.zeros((), dtype=torch.int64, device=device)
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        self._loss = torch.zeros(len(runs), device=device)
        self._mix = compiled(self._mixing.mix, compile)
        self._mix_targets = compiled(self._mixing.mix_targets, compile)
        self._losses = compiled(self._losses_of, compile)
        self._draw = captured(self._draw_epoch, compile, device)
        self._batches: EpochBatches = self._draw()
        self._optimizer.begin_epoch(settings_of_epoch(recipes, self.steps, 0, ()))  # so that warming up changes nothing
        self._advance = captured(self._train_step, compile, device)

    def begin_epoch(self, epoch: int, running: Collection[int]) -> None:
        """Shuffle, draw, and set rates; runs that no longer run keep the weights that they have."""
        self._epoch.fill_(epoch)
        self._step.zero_()
        self._loss.zero_()
        self._batches = self._draw()
        self._optimizer.begin_epoch(settings_of_epoch(self._recipes, self.steps, epoch, running))

    def step(self) -> None:
        """Train on the next batch of every run that has one."""
        self._advance()

    def mean_losses(self) -> list[float]:
        """Mean loss of each run over the epoch; waits for the device."""
        return (self._loss / self._data.count).tolist()

    def load_into(self, model: EmbeddingClassifier, run: int) -> None:
        """Give a classifier the weights of a run."""
        self._network.load_into(model.network, run)  # type: ignore[arg-type]

    def _mixing_dtype(self) -> torch.dtype:
        """On a CPU, where memory is slow, embeddings are mixed in what they are multiplied in."""
        with self._autocast():
            narrow = self._device.type == "cpu" and torch.is_autocast_enabled("cpu")
            return torch.get_autocast_dtype("cpu") if narrow else torch.float32

    def _draw_epoch(self) -> EpochBatches:
        mixing = self._mixing
        keys = self._shuffle_key, self._pairs_key[mixing.first_mixing :]
        return draw_epoch(self._data, *keys, mixing.alpha, self._epoch)

    def _train_step(self) -> None:
        """Everything that is done with a batch; nothing here waits for the device or asks it anything."""
        place = self._step.view(1)  # indexing by a scalar would wait for the GPU
        batches = (values.index_select(0, place).squeeze(0) for values in self._batches)
        rows, own, labels, partners, partner_labels, lam = batches
        counter = torch.stack([self._epoch, self._step, torch.zeros_like(self._step)])
        batch, dim = self._data.batch_size, self._data.embeddings.shape[-1]
        chosen = self._draw_levels(self._stitch_key[self._mixing.first_stitching :], counter, (batch, dim))
        embeddings = self._mix(own, partners, lam, chosen)
        targets = self._mix_targets(labels, partner_labels, lam)
        dropped = self._draw_levels(self._dropout_key, counter, (batch, sum(self._network.dropped)))
        with self._autocast():
            losses = self._losses(embeddings, targets, rows, dropped, *self._network.weights)
        gradients = torch.autograd.grad(losses.sum(), self._network.weights)
        with torch.no_grad():
            self._loss += losses * rows
            self._optimizer.step(self._step, gradients)
            self._step.add_(1).remainder_(max(self.steps))  # warming up may take more steps than an epoch has

    def _losses_of(self, embeddings: Tensor, targets: Tensor, rows: Tensor, levels: Tensor, *weights: Tensor) -> Tensor:
        """Binary cross-entropy of each run, mean over the rows and classes that it has."""
        logits = self._network.forward(embeddings, weights, levels)
        losses = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
        is_row = torch.arange(losses.shape[1], device=rows.device)[:, None] < rows[:, None, None]
        counted = (rows * self._classes).clamp(min=1)
        return torch.where(is_row & self._mixing.is_class, losses, 0).sum(dim=(1, 2)) / counted

    def _draw_levels(self, key: Tensor, counter: Tensor, shape: tuple[int, int]) -> Tensor:
        count = shape[0] * shape[1]
        if not len(key):
            return torch.empty(0, *shape, dtype=torch.int16, device=key.device)
        words = random_words(key, counter, level_words(count))
        return to_levels(words, count).view(len(key), *shape)

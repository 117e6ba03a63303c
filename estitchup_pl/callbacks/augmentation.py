"""Augmentations of embeddings; the paper's mix pairs of a batch (Secs. 2.2, 2.3)."""

from __future__ import annotations

from abc import ABC, abstractmethod

import lightning.pytorch as pl
import torch
from torch import Tensor
from typing_extensions import override

from estitchup_pl.batch import EmbeddingBatch
from estitchup_pl.callbacks.partners import classifier
from estitchup_pl.errors import ConfigError
from estitchup_pl.functional import (
    e_mixup,
    e_stitchup,
    modality_stitch,
    sample_lambda,
    sample_pairs,
    sample_stitch_mask,
)
from estitchup_pl.seeding import batch_generator


class Augmentation(pl.Callback, ABC):
    """Changes the embeddings and targets of training batches; subclass and implement :meth:`augment`.

    What :meth:`augment` draws from its generator is a function of (seed, callback, epoch, batch, process): a resumed
    fit draws what the uninterrupted one would have drawn, and no two processes draw the same.

    Example:
        >>> class Noise(Augmentation):
        ...     def augment(self, embeddings, targets, generator):
        ...         return embeddings + torch.empty_like(embeddings).normal_(0, 0.1, generator=generator), targets
    """

    @abstractmethod
    def augment(self, embeddings: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return changed embeddings and targets; never write into those that came in.

        Args:
            embeddings: ``(*stack, batch, dim)``.
            targets: ``(*stack, batch, classes)``.
            generator: Source of all randomness, on the embeddings' device.
        """

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: EmbeddingBatch, batch_idx: int
    ) -> None:
        place = (trainer.current_epoch, batch_idx, trainer.global_rank)
        generator = batch_generator(self.state_key, *place, device=batch.embeddings.device)
        batch.embeddings, batch.targets = self.augment(batch.embeddings, batch.targets, generator)


class EmbeddingAugmentation(Augmentation):
    """Mixes each item of a training batch with a partner; subclass and implement :meth:`mix`.

    Args:
        alpha: Parameter of the symmetric Beta distribution that λ is drawn from, above 0. One λ a pair.

    Raises:
        ConfigError: If ``alpha`` is not positive.

    Example:
        >>> class Interpolate(EmbeddingAugmentation):
        ...     def mix(self, embeddings, targets, lam, index, generator):
        ...         return e_mixup(embeddings, targets, lam, index)
        >>> Interpolate(alpha=0.2).state_key
        "Interpolate{'alpha': 0.2}"
    """

    def __init__(self, alpha: float = 0.4) -> None:
        if not alpha > 0:
            raise ConfigError(f"alpha must be positive, got {alpha}")
        self.alpha = alpha

    @property
    def state_key(self) -> str:
        """Name of this callback and its parameter, part of the key of its random numbers."""
        return self._generate_state_key(alpha=self.alpha)

    @abstractmethod
    def mix(
        self, embeddings: Tensor, targets: Tensor, lam: Tensor, index: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return mixed embeddings and targets; never write into those that came in.

        Args:
            embeddings: ``(*stack, batch, dim)``.
            targets: ``(*stack, batch, classes)``.
            lam: Weight of the item itself, ``(*stack, batch)`` in ``[0, 1]``.
            index: Position of its partner in the batch, int64 ``(*stack, batch)``.
            generator: Source of any further randomness, on the embeddings' device.
        """

    @override
    def augment(self, embeddings: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        shape, device = embeddings.shape[:-1], embeddings.device
        lam = sample_lambda(shape, self.alpha, generator=generator, device=device, dtype=targets.dtype)
        index = sample_pairs(shape, generator=generator, device=device)
        return self.mix(embeddings, targets, lam, index, generator)


class EMixup(EmbeddingAugmentation):
    """E-Mixup: the λ-weighted average of two items' embeddings and of their targets (Sec. 2.2).

    Args:
        alpha: Parameter of the symmetric Beta distribution that λ is drawn from, above 0.
    """

    @override
    def mix(
        self, embeddings: Tensor, targets: Tensor, lam: Tensor, index: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        return e_mixup(embeddings, targets, lam, index)


class EStitchup(EmbeddingAugmentation):
    """E-Stitchup: each value from one of two items, from the first with probability λ (Sec. 2.3).

    Args:
        alpha: Parameter of the symmetric Beta distribution that λ is drawn from, above 0.
    """

    @override
    def mix(
        self, embeddings: Tensor, targets: Tensor, lam: Tensor, index: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        mask = sample_stitch_mask(lam, embeddings.shape[-1], generator=generator)
        return e_stitchup(embeddings, targets, lam, index, mask)


class ModalityStitch(EmbeddingAugmentation):
    """Stitches whole modalities: each comes from the item with probability λ, else from its partner.

    E-Stitchup chooses for each value by itself, so of every modality about a share of λ is kept. Here an item may
    get the title of one product and the picture of another. With few modalities the shares that come out differ
    from λ, and often an item keeps all of its own; so the target is weighed by the share that it *has* kept, and
    an item left whole keeps its target whole.

    Args:
        alpha: Parameter of the symmetric Beta distribution that λ is drawn from, above 0.
    """

    def __init__(self, alpha: float = 0.4) -> None:
        super().__init__(alpha)
        self._widths: tuple[int, ...] = ()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Learn the widths of the modalities.

        Raises:
            ConfigError: If there is only one.
        """
        modalities = classifier(pl_module, self).modalities
        self._widths = tuple(modalities.values())
        if len(self._widths) < 2:
            raise ConfigError(f"ModalityStitch needs at least two modalities, got {list(modalities)}; use EStitchup")

    @override
    def mix(
        self, embeddings: Tensor, targets: Tensor, lam: Tensor, index: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        if not self._widths:
            raise ConfigError("ModalityStitch learns the modalities when a fit begins; elsewhere use EStitchup")
        draws = torch.rand(*lam.shape, len(self._widths), generator=generator, device=lam.device)
        return modality_stitch(embeddings, targets, draws < lam.unsqueeze(-1), index, self._widths)

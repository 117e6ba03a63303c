"""The batches of all runs, mixed: runs that mix alike are one group, side by side in the stack."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from estitchup_pl.functional.random_bits import below
from estitchup_pl.functional.softening import spread_softly
from estitchup_pl.model.scaling import ModalityScaling
from estitchup_pl.stacking.recipe import MIXERS, Recipe


class StackMixing:
    """Scales, mixes and softens the items of all runs, each as its run does.

    Args:
        recipes: Recipe of each run, in the order of their mixers: no mixing first, then E-Mixup, then E-Stitchup.
        scales: Scaling of each run; the modalities scaled by ``l2``, and by ``centered_l2``, are the same in all.
        embeddings: Embeddings of all items, ``(n, dim)``.
        classes: Number of classes of each run, int64 ``(runs,)``.
        dtype: What to mix in: float32, or bfloat16 where the network multiplies in it.

    Attributes:
        first_mixing: Position of the first run that mixes.
        first_stitching: Position of the first run that stitches.
        alpha: Parameters of the runs that mix, ``(mixing runs,)``.
        is_class: Whether a column is a class of a run, bool ``(runs, 1, most classes)``.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        scales: Sequence[ModalityScaling],
        embeddings: Tensor,
        classes: Tensor,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        device = embeddings.device
        mixers = [recipe.mixer for recipe in recipes]
        self.first_mixing = sum(mixer < 1 for mixer in mixers)
        self.first_stitching = sum(mixer < len(MIXERS) - 1 for mixer in mixers)
        self.alpha = torch.tensor([recipe.alpha for recipe in recipes[self.first_mixing :]], device=device)
        self._columns = torch.arange(int(classes.max()), device=device)
        self.is_class = (self._columns < classes[:, None]).unsqueeze(1)
        softness = [recipe.softness for recipe in recipes]
        self._softens = any(value is not None for value in softness)
        self._softness = torch.tensor([value or 0.0 for value in softness], device=device)[:, None, None]
        self._is_softened = torch.tensor([value is not None for value in softness], device=device)[:, None, None]
        self._dtype = dtype
        self._moments: tuple[Tensor, Tensor, Tensor] | None = None
        self._widths = list(scales[0].modalities.values())
        self._centered = [kind == "centered_l2" for kind in scales[0].kinds.values()]
        if all(_is_equal(scale, scales[0]) for scale in scales):
            self._embeddings = _scaled(scales[0], embeddings)
            if dtype == torch.bfloat16:  # as the product would have them: half of the bytes to gather
                self._embeddings = self._embeddings.to(dtype)
        else:
            self._embeddings = _scaled(_lengths_only(scales[0]), embeddings)
            self._moments = (*_stacked_moments(scales, device), _presence(scales[0], embeddings))

    def mix(self, own: Tensor, partners: Tensor, lam: Tensor, levels: Tensor) -> Tensor:
        """Embeddings of a batch of every run, ``(runs, batch, dim)``.

        Args:
            own: Where the items stand in the embeddings, int64 ``(runs, batch)``.
            partners: Where their partners stand, int64 ``(mixing runs, batch)``.
            lam: Shares that the items keep, ``(mixing runs, batch)``.
            levels: Random int16 ``(stitching runs, batch, dim)``.
        """
        items = self._gather(own, slice(None))
        if not len(partners):
            return items
        mixing, stitching = self.first_mixing, self.first_stitching
        others, lam = self._gather(partners, slice(mixing, None)), lam.unsqueeze(-1)
        groups = [items[:mixing]] if mixing else []
        count = stitching - mixing
        if count:
            groups.append(torch.lerp(others[:count], items[mixing:stitching], lam[:count].to(items.dtype)))
        if len(levels):
            kept = below(levels, lam[count:])
            if kept.is_cpu:  # where PyTorch converts bytes in a sixth of the time of bools
                kept = kept.view(torch.uint8)
            # Weights of 0 and 1, exact for finite values.
            groups.append(torch.lerp(others[count:], items[stitching:], kept.to(items.dtype)))
        return torch.cat(groups) if len(groups) > 1 else groups[0]

    def mix_targets(self, labels: Tensor, partner_labels: Tensor, lam: Tensor) -> Tensor:
        """Targets of a batch of every run, float32 ``(runs, batch, classes)``, from items' and partners' classes."""
        targets = (labels.unsqueeze(-1) == self._columns).float()
        if len(lam):
            others = (partner_labels.unsqueeze(-1) == self._columns).float()
            mixed = torch.lerp(others, targets[self.first_mixing :], lam.unsqueeze(-1))
            targets = torch.cat([targets[: self.first_mixing], mixed]) if self.first_mixing else mixed
        if self._softens:
            softened = spread_softly(targets, self._softness, self.is_class)
            targets = torch.where(self._is_softened, softened, targets)
        return targets

    def _gather(self, positions: Tensor, runs: slice) -> Tensor:
        rows = self._embeddings.index_select(0, positions.flatten())
        items = rows.view(*positions.shape, rows.shape[-1])
        if self._moments is None:
            return items.to(self._dtype)
        mean, std, presence = self._moments
        items = (items.float() - mean[runs]) / std[runs] * presence.index_select(0, positions.flatten()).view_as(items)
        if not any(self._centered):
            return items.to(self._dtype)
        parts = zip(torch.split(items, self._widths, dim=-1), self._centered, strict=True)
        items = torch.cat([F.normalize(part, dim=-1) if centered else part for part, centered in parts], dim=-1)
        return items.to(self._dtype)


def _is_equal(one: ModalityScaling, other: ModalityScaling) -> bool:
    return one.kinds == other.kinds and torch.equal(one.mean, other.mean) and torch.equal(one.std, other.std)


def _scaled(scale: ModalityScaling, embeddings: Tensor) -> Tensor:
    """Scale once for all epochs; embeddings that need no scaling stay in their type."""
    if set(scale.kinds.values()) == {"none"}:
        return embeddings
    own = ModalityScaling(scale.modalities, scale.kinds).to(embeddings.device)
    own.load_state_dict(scale.state_dict())
    return torch.cat([own(part.float()) for part in torch.split(embeddings, 65536)])


def _lengths_only(scale: ModalityScaling) -> ModalityScaling:
    return ModalityScaling(scale.modalities, {name: kind for name, kind in scale.kinds.items() if kind == "l2"})


def _stacked_moments(scales: Sequence[ModalityScaling], device: torch.device) -> tuple[Tensor, Tensor]:
    """Means and deviations, each ``(runs, 1, dim)``: 0 and 1 where a run learns none."""
    dim = sum(scales[0].modalities.values())
    means = [scale.mean if len(scale.mean) else torch.zeros(dim) for scale in scales]
    stds = [scale.std if len(scale.std) else torch.ones(dim) for scale in scales]
    return torch.stack(means).unsqueeze(1).to(device), torch.stack(stds).unsqueeze(1).to(device)


def _presence(scale: ModalityScaling, embeddings: Tensor) -> Tensor:
    """Whether an item has the modality of a column, bool ``(n, dim)``."""
    parts = torch.split(embeddings, list(scale.modalities.values()), dim=-1)
    return torch.cat([part.any(dim=-1, keepdim=True).expand_as(part) for part in parts], dim=-1)

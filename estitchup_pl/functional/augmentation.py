"""Embedding augmentation (Secs. 2.2 and 2.3): random pairs, random shares, and the two ways to mix.

Drawing and mixing are apart: the mixing functions are deterministic in ``lam``, ``index`` and ``mask``, and the
sampling functions take a generator, so nothing here touches the global random state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.functional.random_bits import below

MASK_BITS = 16
"""Random bits behind one element of a stitch mask: a share is met to within ``2**-17``."""

_BLOCK_ELEMENTS = 2**18

_MANY_WORDS = 2**15
"""Random words from which on making another generator pays."""


def sample_pairs(
    shape: Sequence[int],
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Draw a partner for every item of a batch, never the item itself.

    Items are laid on a circle in random order and each is paired with its successor: a random cyclic
    permutation. Every other item is equally likely as a partner, and the cost is one sort, with nothing to
    reject and draw again. (Cyclic permutations are a part of all derangements, so the draw is not uniform over
    those.) The item in a batch of one is its own partner, so mixing leaves it as it is.

    Args:
        shape: ``(*stack, batch)``.
        generator: Source of randomness; the default one of the device if not given.
        device: Where to draw; the generator's device if not given.

    Returns:
        Index of each item's partner, int64 ``(*stack, batch)``.

    Example:
        >>> index = sample_pairs((4,), generator=torch.Generator().manual_seed(0))
        >>> bool((index != torch.arange(4)).all())
        True
    """
    circle = torch.rand(*shape, generator=generator, device=_device(generator, device)).argsort(dim=-1)
    return torch.empty_like(circle).scatter_(-1, circle, circle.roll(-1, dims=-1))


def sample_lambda(
    shape: Sequence[int],
    alpha: float | Tensor,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw the share that each item keeps of itself from Beta(alpha, alpha), one draw a pair.

    The draws are not folded to ``max(lam, 1 - lam)``. They are made in log space, so that an ``alpha`` near
    zero gives shares of zero and one, each half of the time, where a quotient of two gamma draws breaks down.

    Args:
        shape: ``(*stack, batch)``.
        alpha: Positive parameter; a tensor must broadcast to ``shape``, such as ``(*stack, 1)``.
        generator: Source of randomness; the default one of the device if not given.
        device: Where to draw; the generator's device if not given.
        dtype: Floating point type of the result.

    Returns:
        Shares in ``[0, 1]``, ``(*stack, batch)``.

    Raises:
        ConfigError: If ``alpha`` is not positive and finite.

    Example:
        >>> lam = sample_lambda((1000,), 0.4, generator=torch.Generator().manual_seed(0))
        >>> lam.shape, bool((lam.mean() - 0.5).abs() < 0.05)
        (torch.Size([1000]), True)
    """
    device = _device(generator, device)
    work = torch.promote_types(dtype, torch.float32)
    if not _all_positive(alpha):
        raise ConfigError(f"alpha: expected a positive, finite number, got {alpha}; values from 0.1 to 1 are usual")
    concentration = torch.as_tensor(alpha, dtype=work, device=device).expand(2, *shape)
    # Gamma(a) is Gamma(a + 1) * U ** (1 / a), and -log U is a draw from the exponential distribution.
    gamma = torch._standard_gamma(concentration + 1, generator=generator)
    minus_log_uniform = torch.empty_like(gamma).exponential_(generator=generator)
    log_gamma = gamma.log() - minus_log_uniform / concentration
    return torch.sigmoid(log_gamma[0] - log_gamma[1]).to(dtype)


def sample_stitch_mask(lam: Tensor, dim: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Draw for every element whether it is taken from the item itself: independent Bernoulli(lam) (Sec. 2.3).

    One draw costs 16 random bits: ``lam`` is rounded to a multiple of 1/65536 (0 and 1 are exact) and compared
    with a quarter of a random 64-bit word. On CPUs this takes about a quarter of the time of ``rand() < lam``.

    Args:
        lam: Probability of True, ``(*stack, batch)`` in ``[0, 1]``.
        dim: Elements of an embedding, over all its modalities.
        generator: Source of randomness, on the device of ``lam``.

    Returns:
        Mask, bool ``(*stack, batch, dim)``.

    Example:
        >>> sample_stitch_mask(torch.tensor([0.0, 1.0]), 3)
        tensor([[False, False, False],
                [ True,  True,  True]])
    """
    draws = random_levels(lam.numel() * dim, generator=generator, device=lam.device)
    share = lam.to(torch.promote_types(lam.dtype, torch.float32)).unsqueeze(-1)
    return below(draws.view(*lam.shape, dim), share)


def random_levels(
    count: int, *, generator: torch.Generator | None = None, device: torch.device | str | None = None
) -> Tensor:
    """Draw 16-bit integers, a quarter of a random 64-bit word each: the cheapest way to many independent choices.

    Args:
        count: How many.
        generator: Source of randomness; the default one of the device if not given.
        device: Where to draw; the generator's device if not given.

    Returns:
        Uniform over all int16, ``(count,)``, in memory of its own that may be written to.
    """
    number = -(-count * MASK_BITS // 64)
    words = torch.empty(number, dtype=torch.int64, device=_device(generator, device))
    if words.is_cpu and number >= _MANY_WORDS:  # NumPy's generator takes a quarter of the time of PyTorch's
        seed = int(torch.empty((), dtype=torch.int64).random_(generator=generator))
        words = torch.from_numpy(np.random.SFC64(seed).random_raw(number).view(np.int64))
    else:
        words.random_(-(2**63), None, generator=generator)  # without bounds the sign bit would stay zero
    return words.view(torch.int16)[:count]


def e_mixup(embeddings: Tensor, targets: Tensor, lam: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Average each item with its partner, ``lam * own + (1 - lam) * partner`` (E-Mixup, Sec. 2.2).

    Args:
        embeddings: Float ``(*stack, batch, dim)``.
        targets: Float ``(*stack, batch, classes)``.
        lam: Weight of the item itself, ``(*stack, batch)`` in ``[0, 1]``.
        index: Partner of each item, int64 ``(*stack, batch)``.

    Returns:
        Mixed embeddings and mixed targets, in the shapes and types that came in.

    Raises:
        DataError: If the shapes do not fit together.

    Example:
        >>> embeddings, targets = torch.tensor([[0.0, 4.0], [8.0, 8.0]]), torch.eye(2)
        >>> e_mixup(embeddings, targets, torch.tensor([0.75, 1.0]), torch.tensor([1, 0]))
        (tensor([[2., 5.],
                [8., 8.]]), tensor([[0.7500, 0.2500],
                [0.0000, 1.0000]]))
    """
    _check_pairs(embeddings, targets, lam, index)
    return _average(embeddings, lam, index), _average(targets, lam, index)


def e_stitchup(embeddings: Tensor, targets: Tensor, lam: Tensor, index: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Take each element from the item or from its partner; average the targets (E-Stitchup, Sec. 2.3).

    Args:
        embeddings: Finite float ``(*stack, batch, dim)``.
        targets: Float ``(*stack, batch, classes)``.
        lam: Share of the item itself, ``(*stack, batch)`` in ``[0, 1]``.
        index: Partner of each item, int64 ``(*stack, batch)``.
        mask: True where the item keeps its own element, bool ``(*stack, batch, dim)``.

    Returns:
        Stitched embeddings and mixed targets, in the shapes and types that came in.

    Raises:
        DataError: If the shapes do not fit together.

    Example:
        >>> embeddings, targets = torch.tensor([[0.0, 4.0], [8.0, 9.0]]), torch.eye(2)
        >>> mask = torch.tensor([[True, False], [True, True]])
        >>> e_stitchup(embeddings, targets, torch.tensor([0.5, 1.0]), torch.tensor([1, 0]), mask)
        (tensor([[0., 9.],
                [8., 9.]]), tensor([[0.5000, 0.5000],
                [0.0000, 1.0000]]))
    """
    _check_pairs(embeddings, targets, lam, index)
    if mask.shape != embeddings.shape or mask.dtype != torch.bool:
        raise DataError(
            f"mask: expected bool {tuple(embeddings.shape)} like the embeddings, "
            f"got {mask.dtype} {tuple(mask.shape)}; draw it with sample_stitch_mask"
        )
    return _stitch(embeddings, index, mask), _average(targets, lam, index)


def modality_stitch(
    embeddings: Tensor, targets: Tensor, keep: Tensor, index: Tensor, widths: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Take each modality whole, from the item or from its partner; weigh the targets by how many came from each.

    No classifier can tell a share of λ from an item in which every modality happens to be its own, so the weight
    of the item's own target is the share of modalities that it has kept, not the λ they were drawn with.

    Args:
        embeddings: Finite float ``(*stack, batch, dim)``.
        targets: Float ``(*stack, batch, classes)``.
        keep: True where the item keeps its own modality, bool ``(*stack, batch, modalities)``.
        index: Partner of each item, int64 ``(*stack, batch)``.
        widths: Columns of each modality, in the order of their concatenation; they sum to ``dim``.

    Returns:
        Stitched embeddings and mixed targets, in the shapes and types that came in.

    Raises:
        DataError: If the shapes do not fit together.

    Example:
        >>> embeddings, targets = torch.tensor([[1.0, 2.0, 3.0], [7.0, 8.0, 9.0]]), torch.eye(2)
        >>> keep = torch.tensor([[True, False], [True, True]])
        >>> modality_stitch(embeddings, targets, keep, torch.tensor([1, 0]), widths=[2, 1])
        (tensor([[1., 2., 9.],
                [7., 8., 9.]]), tensor([[0.5000, 0.5000],
                [0.0000, 1.0000]]))
    """
    if keep.shape != (*embeddings.shape[:-1], len(widths)) or sum(widths) != embeddings.shape[-1]:
        raise DataError(
            f"keep and widths: expected one choice for each item and modality of embeddings {tuple(embeddings.shape)}, "
            f"and widths that sum to {embeddings.shape[-1]}, got {tuple(keep.shape)} and {list(widths)}"
        )
    share = keep.to(targets.dtype).mean(dim=-1)
    _check_pairs(embeddings, targets, share, index)
    columns = torch.tensor(widths, device=keep.device)
    mask = keep.repeat_interleave(columns, dim=-1, output_size=embeddings.shape[-1])
    return _stitch(embeddings, index, mask), _average(targets, share, index)


def _stitch(embeddings: Tensor, index: Tensor, mask: Tensor) -> Tensor:
    """Select by weights of 0 and 1, exact for finite values: torch.where is not vectorised on CPUs.

    The weights are made for a block of rows at a time, so that on a CPU they stay in its cache.
    """
    stitched = _partner(embeddings, index)
    width = embeddings.shape[-1]
    rows = embeddings.shape[:-1].numel()
    result, own, keep = (values.reshape(rows, width) for values in (stitched, embeddings, mask.view(torch.uint8)))
    step = max(_BLOCK_ELEMENTS // max(width, 1), 1) if embeddings.is_cpu else max(rows, 1)
    for block in (slice(start, start + step) for start in range(0, rows, step)):
        result[block].lerp_(own[block], keep[block].to(own.dtype))
    return stitched


def _average(values: Tensor, lam: Tensor, index: Tensor) -> Tensor:
    return _partner(values, index).lerp_(values, lam.to(values.dtype).unsqueeze(-1))


def _partner(values: Tensor, index: Tensor) -> Tensor:
    """Gather whole rows within each run of the stack, into a new tensor."""
    batch, width = values.shape[-2:]
    runs = values.shape[:-2].numel()
    first_row = torch.arange(runs, device=index.device).unsqueeze(1) * batch
    rows = (index.reshape(runs, batch) + first_row).flatten()
    return values.reshape(runs * batch, width).index_select(0, rows).view(values.shape)


def _check_pairs(embeddings: Tensor, targets: Tensor, lam: Tensor, index: Tensor) -> None:
    rows = embeddings.shape[:-1]
    for name, shape in (("targets", targets.shape[:-1]), ("lam", lam.shape), ("index", index.shape)):
        if shape != rows:
            raise DataError(
                f"{name}: expected one entry for each of the {tuple(rows)} items "
                f"of embeddings {tuple(embeddings.shape)}, got {tuple(shape)}"
            )


def _all_positive(alpha: float | Tensor) -> bool:
    if isinstance(alpha, Tensor):
        return bool(((alpha > 0) & alpha.isfinite()).all())
    return 0 < alpha < math.inf  # a number takes a tenth of the time, and waits for no GPU


def _device(generator: torch.Generator | None, device: torch.device | str | None) -> torch.device | str | None:
    return generator.device if device is None and generator is not None else device

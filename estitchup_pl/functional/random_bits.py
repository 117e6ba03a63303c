"""Random bits as a function of a key and a counter (Philox4x64-10), and what is made of them.

A generator that holds a state must be kept, copied and moved on in step with what it is for. Here nothing is kept:
block ``i`` of a stream is ``philox(key, counter)``, where the key says whose numbers these are (a run and a purpose)
and the counter where training stands (epoch, batch, block). A run draws the same alone and among others, on a CPU and
on a GPU, in a fit that was interrupted and in one that was not.

Salmon et al., *Parallel random numbers: as easy as 1, 2, 3* (SC 2011).
"""

from __future__ import annotations

import importlib.util
import math
import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor

LEVELS = 2**16
"""Values that one level takes; a probability is met to within ``2**-17``."""

_ROUNDS = 10
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_LOW = 0xFFFFFFFF
_BLOCK = 4  # words of a block


def philox(key: tuple[Tensor, Tensor], counter: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox4x64-10: the four words of each block, as plain arithmetic.

    Args:
        key: Two words, int64 (their bits count), each of a shape that broadcasts.
        counter: Four words, likewise.

    Returns:
        Four words, int64, uniform over all 64 bits, in the common shape.
    """
    (key0, key1), (word0, word1, word2, word3) = key, counter
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(word0, _MULTIPLIERS[0])
        high1, low1 = _multiply(word2, _MULTIPLIERS[1])
        word0, word1, word2, word3 = high1 ^ word1 ^ key0, low1, high0 ^ word3 ^ key1, low0
        key0, key1 = key0 + _signed(_WEYL[0]), key1 + _signed(_WEYL[1])
    return word0, word1, word2, word3


def random_words(key: Tensor, counter: Tensor, count: int) -> Tensor:
    """Draw the first ``count`` 64-bit words of the streams that a key and a counter name.

    On CPUs NumPy draws the same numbers in a tenth of the time, and on NVIDIA's GPUs one kernel does.

    Args:
        key: Whose numbers, int64 ``(*stack, 2)``, see :func:`~estitchup_pl.seeding.stream_key`.
        counter: Where training stands, such as (epoch, batch, process), int64 ``(*stack or broadcast, 3)``.
        count: How many.

    Returns:
        Uniform over all int64, ``(*stack, count)``, in memory of its own.

    Example:
        >>> key, counter = torch.tensor([7, 8]), torch.tensor([0, 0, 0])
        >>> bool((random_words(key, counter, 9)[:5] == random_words(key, counter, 5)).all())
        True
    """
    if key.is_cpu:
        return _numpy_words(key, counter, count)
    if key.is_cuda and importlib.util.find_spec("triton"):
        from estitchup_pl.functional.random_triton import triton_words  # which nothing else needs

        return triton_words(key, counter, count)
    return philox_words(key, counter, count)


def philox_words(key: Tensor, counter: Tensor, count: int) -> Tensor:
    """Do what :func:`random_words` does with tensors alone, on any device."""
    key, counter = key.unsqueeze(-2), counter.unsqueeze(-2)
    block = torch.arange(1, -(-count // _BLOCK) + 1, device=key.device)
    words = philox((key[..., 0], key[..., 1]), (block, counter[..., 0], counter[..., 1], counter[..., 2]))
    return torch.stack(words, dim=-1).flatten(-2)[..., :count]


def to_levels(words: Tensor, count: int) -> Tensor:
    """Cut words ``(*stack, n)`` into ``count`` 16-bit levels each: int16 ``(*stack, count)``, at most ``4 n``."""
    return words.view(torch.int16)[..., :count]


def level_words(count: int) -> int:
    """Words that ``count`` levels take."""
    return -(-count // 4)


def below(levels: Tensor, share: Tensor) -> Tensor:
    """Turn levels into independent choices, each True with probability ``share``; 0 and 1 are exact.

    Args:
        levels: int16, see :func:`to_levels`.
        share: Float in ``[0, 1]``, broadcasts to ``levels``.

    Returns:
        bool, in the shape of ``levels``.
    """
    # 16-bit comparisons are the fastest there are on CPUs, but 65536, for always, is no 16-bit number.
    threshold = (share * LEVELS).round().to(torch.int32) - LEVELS // 2
    always = threshold == LEVELS // 2
    threshold = threshold.clamp(max=LEVELS // 2 - 1).to(torch.int16)
    if not levels.is_cpu:
        return (levels < threshold) | always
    drawn = torch.from_numpy(np.less(levels.numpy(), threshold.numpy()))  # in a seventh of PyTorch's time
    bytes_drawn = drawn.view(torch.uint8)  # of which PyTorch takes the greater at once, and of bools one by one
    torch.maximum(bytes_drawn, always.view(torch.uint8), out=bytes_drawn)
    return drawn


def to_uniforms(words: Tensor) -> tuple[Tensor, Tensor]:
    """Make two independent float32 uniforms in ``(0, 1]`` of each word."""
    scale, half = 2.0**-32, 2.0**-33
    return ((words >> 32) & _LOW).float() * scale + half, (words & _LOW).float() * scale + half


def to_beta(words: Tensor, alpha: Tensor) -> Tensor:
    """Make one draw from the symmetric Beta(alpha, alpha) of each word, exactly and with nothing to reject.

    With ``U`` and ``V`` uniform, ``w = (U ** (-1 / alpha) - 1) * cos(2 pi V) ** 2`` has the law of ``T² / 2 alpha``
    for a Student's ``T`` with ``2 alpha`` degrees of freedom (Bailey 1994), and ``(1 ± sqrt(w / (1 + w))) / 2``, with
    the sign of the cosine, that of Beta(alpha, alpha) (Devroye 1996). It is evaluated so that neither end loses
    digits: an ``alpha`` near zero gives shares of zero and one, each half of the time.

    Args:
        words: int64, see :func:`random_words`.
        alpha: Positive, float, broadcasts to ``words``.

    Returns:
        Float32 in ``[0, 1]``, in the shape of ``words``.
    """
    first, second = to_uniforms(words)
    cosine = torch.cos(2 * math.pi * second)
    log_power = first.log() / alpha
    power = log_power.exp()
    rest = power / (power - torch.expm1(log_power) * cosine.square())  # 1 / (1 + w)
    share = rest / (2 * (1 + (1 - rest).clamp(min=0).sqrt()))
    return torch.where(cosine < 0, share, 1 - share)


def to_partners(words: Tensor, rows: Tensor) -> Tensor:
    """Put the first ``rows`` items of each batch on a circle in random order; each one's partner is its successor.

    Every other item is equally likely as a partner. An item alone is its own partner, and so are items past ``rows``.

    Args:
        words: One an item, int64 ``(*stack, batch)``, see :func:`random_words`.
        rows: Number of items that there are, int64 ``(*stack,)``.

    Returns:
        Position of each item's partner, int64 ``(*stack, batch)``.
    """
    place = torch.arange(words.shape[-1], device=words.device).expand_as(words)
    circle = shuffle(words, rows)
    following = torch.where(place + 1 < rows.unsqueeze(-1), place + 1, torch.zeros_like(place))
    following = torch.where(place < rows.unsqueeze(-1), following, place)
    return torch.empty_like(circle).scatter_(-1, circle, circle.gather(-1, following))


def shuffle(words: Tensor, rows: Tensor) -> Tensor:
    """Put the first ``rows`` of the positions of each row of ``words`` into random order, all others behind them.

    Args:
        words: int64 ``(*stack, n)``, see :func:`random_words`.
        rows: int64 ``(*stack,)``.

    Returns:
        Positions, int64 ``(*stack, n)``.
    """
    last = torch.iinfo(torch.int64).max
    place = torch.arange(words.shape[-1], device=words.device)
    return torch.where(place < rows.unsqueeze(-1), words, last).argsort(dim=-1, stable=True)


def _multiply(word: Tensor, by: int) -> tuple[Tensor, Tensor]:
    """High and low 64 bits of an unsigned product, by halves of 32 bits; int64 arithmetic wraps."""
    by_high, by_low = by >> 32, by & _LOW
    high, low = (word >> 32) & _LOW, word & _LOW
    carry = high * by_low + (((low * by_low) >> 32) & _LOW)
    middle = low * by_high + (carry & _LOW)
    return high * by_high + ((carry >> 32) & _LOW) + ((middle >> 32) & _LOW), word * _signed(by)


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


def _numpy_words(key: Tensor, counter: Tensor, count: int) -> Tensor:
    stack = np.broadcast_shapes(key.shape[:-1], counter.shape[:-1])
    keys = np.broadcast_to(key.numpy().view(np.uint64), (*stack, 2)).reshape(-1, 2)
    counters = np.broadcast_to(counter.numpy().view(np.uint64), (*stack, 3)).reshape(-1, 3)
    words = np.empty((len(keys), count), np.uint64)
    generator = _LOCAL.generator
    state: Any = {**generator.state, "buffer_pos": _BLOCK}  # nothing is left of what was drawn before
    for own, own_key, own_counter in zip(words, keys, counters, strict=True):
        # NumPy counts on before it draws, so its first block is number 1, as in philox_words.
        state["state"] = {"key": own_key, "counter": np.array([0, *own_counter], np.uint64)}
        generator.state = state
        own[:] = generator.random_raw(count)
    return torch.from_numpy(words.view(np.int64).reshape(*stack, count))


class _Local(threading.local):
    """A generator for each thread: making one takes as long as drawing five thousand words."""

    def __init__(self) -> None:
        self.generator = np.random.Philox(key=0)


_LOCAL = _Local()

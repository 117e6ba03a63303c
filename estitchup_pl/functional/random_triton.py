"""The words of :mod:`~estitchup_pl.functional.random_bits` as one kernel of a GPU."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCKS = 256
"""Blocks of four words that a program of the kernel draws."""


def triton_words(key: Tensor, counter: Tensor, count: int) -> Tensor:
    """Do what :func:`~estitchup_pl.functional.random_bits.random_words` does, on the GPU that ``key`` is on."""
    stack = torch.broadcast_shapes(key.shape[:-1], counter.shape[:-1])  # type: ignore[no-untyped-call]
    keys, counters = key.expand(*stack, 2).contiguous(), counter.expand(*stack, 3).contiguous()
    blocks = -(-count // 4)
    words = torch.empty(*stack, 4 * blocks, dtype=torch.int64, device=key.device)
    streams = stack.numel()
    if streams and blocks:
        _draw[(triton.cdiv(blocks, BLOCKS), streams)](keys, counters, words, blocks, BLOCKS=BLOCKS)
    return words[..., :count]


@triton.jit  # type: ignore[untyped-decorator]
def _draw(keys, counters, words, blocks, BLOCKS: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    stream = tl.program_id(1).to(tl.int64)
    block = tl.program_id(0) * BLOCKS + tl.arange(0, BLOCKS)
    key0 = tl.load(keys + 2 * stream).to(tl.uint64, bitcast=True)
    key1 = tl.load(keys + 2 * stream + 1).to(tl.uint64, bitcast=True)
    zero = tl.zeros((BLOCKS,), tl.uint64)
    counter1 = zero + tl.load(counters + 3 * stream).to(tl.uint64, bitcast=True)
    counter2 = zero + tl.load(counters + 3 * stream + 1).to(tl.uint64, bitcast=True)
    counter3 = zero + tl.load(counters + 3 * stream + 2).to(tl.uint64, bitcast=True)
    number = (block + 1).to(tl.uint64)
    word0, word1, word2, word3 = tl.philox_impl(number, counter1, counter2, counter3, key0, key1)
    place = words + 4 * (stream * blocks + block)
    inside = block < blocks
    tl.store(place, word0.to(tl.int64, bitcast=True), mask=inside)
    tl.store(place + 1, word1.to(tl.int64, bitcast=True), mask=inside)
    tl.store(place + 2, word2.to(tl.int64, bitcast=True), mask=inside)
    tl.store(place + 3, word3.to(tl.int64, bitcast=True), mask=inside)

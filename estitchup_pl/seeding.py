"""Randomness as a function of where training stands, never of what was drawn before.

A generator keyed by numbers such as (seed, stream, epoch, batch, rank) gives a resumed fit the very draws that
the uninterrupted one would have made, and gives every process its own. Lightning alone does neither: after
``seed_everything`` all ranks draw the same numbers, and a resumed run replays them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_RUN_SEED: ContextVar[int | None] = ContextVar("run_seed", default=None)


def global_seed() -> int:
    """Seed of the run at hand: that of :func:`run_seed`, else the one set by Lightning's ``seed_everything``.

    ``0`` where neither was used.
    """
    seed = _RUN_SEED.get()
    return int(os.environ.get("PL_GLOBAL_SEED", "0")) if seed is None else seed


@contextmanager
def run_seed(seed: int) -> Iterator[None]:
    """Make ``seed`` the :func:`global_seed` of what the body does; each run of a stack has its own.

    Example:
        >>> with run_seed(7):
        ...     global_seed()
        7
    """
    token = _RUN_SEED.set(seed)
    try:
        yield
    finally:
        _RUN_SEED.reset(token)


def derive_seed(*key: int | str) -> int:
    """Hash a key to a seed of 63 bits; equal keys give equal seeds on every machine and Python version.

    Example:
        >>> derive_seed(0, "EMixup", 3) == derive_seed(0, "EMixup", 3)
        True
        >>> derive_seed(0, "EMixup", 3) == derive_seed(0, "EMixup", 4)
        False
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def keyed_generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Build a generator on ``device`` whose stream is a function of ``key`` alone."""
    return torch.Generator(device).manual_seed(derive_seed(*key))


def batch_generator(
    name: str, epoch: int, batch: int, rank: int, *, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Build the generator of one batch of a fit: a stream for (seed of the run, name, epoch, batch, process).

    Args:
        name: Whose numbers these are, such as a callback's ``state_key``.
        epoch: Epoch of the fit, from 0.
        batch: Batch of the epoch, from 0.
        rank: Number of the process.
        device: Where the numbers are drawn.

    Example:
        >>> first, again = (batch_generator("Noise", epoch=3, batch=0, rank=0) for _ in range(2))
        >>> torch.rand((), generator=first) == torch.rand((), generator=again)
        tensor(True)
    """
    return keyed_generator(global_seed(), name, epoch, batch, rank, device=device)


def stream_key(seed: int, purpose: str) -> tuple[int, int]:
    """Two words that name the numbers of a run for one purpose, see :mod:`~estitchup_pl.functional.random_bits`.

    Example:
        >>> stream_key(0, "shuffle")[0] == stream_key(0, "dropout")[0]
        True
        >>> stream_key(0, "shuffle") == stream_key(1, "shuffle")
        False
    """
    return derive_seed(seed), derive_seed(purpose)

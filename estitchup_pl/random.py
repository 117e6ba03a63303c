"""Randomness as a function of where training stands, never of what was drawn before.

A generator keyed by numbers such as (seed, stream, epoch, batch, rank) gives a resumed fit the very draws that
the uninterrupted one would have made, and gives every process its own. Lightning alone does neither: after
``seed_everything`` all ranks draw the same numbers, and a resumed run replays them.
"""

from __future__ import annotations

import hashlib
import os

import torch


def global_seed() -> int:
    """Seed set by Lightning's ``seed_everything`` (``0`` where it was never called)."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))


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

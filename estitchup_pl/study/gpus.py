"""One GPU for each worker of a machine."""

from __future__ import annotations

import os
import tempfile
from functools import lru_cache
from pathlib import Path

import torch
from filelock import FileLock, Timeout


@lru_cache(maxsize=1)
def claim_gpu() -> FileLock | None:
    """Make this process see one GPU alone, which no other worker has; does nothing where there are none or one.

    Returns:
        What holds the claim as long as this process lives.
    """
    if torch.cuda.device_count() < 2:
        return None
    number, lock = first_free(visible_gpus(), Path(tempfile.gettempdir()))
    os.environ["CUDA_VISIBLE_DEVICES"] = number
    return lock


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process sees, as ``CUDA_VISIBLE_DEVICES`` has them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",") if given else [str(number) for number in range(torch.cuda.device_count())]


def first_free(numbers: list[str], folder: Path) -> tuple[str, FileLock | None]:
    """Lock the first GPU that no other process has; where all are taken, share one.

    Args:
        numbers: The GPUs.
        folder: Where their locks lie.
    """
    for number in numbers:
        lock = FileLock(folder / f"estitchup-{os.getuid()}-gpu-{number}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        return number, lock
    return numbers[os.getpid() % len(numbers)], None

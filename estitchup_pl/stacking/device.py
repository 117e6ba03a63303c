"""What runs are computed on, in which precision, and with how many threads."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.fabric import Fabric
from threadpoolctl import threadpool_limits

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Numbers of two options of glibc's ``mallopt``."""

KEPT_BYTES = 2**30
"""Bytes up to which freed memory is kept."""


def device_of(accelerator: str) -> torch.device:
    """Device that Lightning takes for an accelerator such as ``"auto"`` or ``"cpu"``.

    Example:
        >>> device_of("cpu")
        device(type='cpu')
    """
    return torch.device("cpu") if accelerator == "cpu" else Fabric(accelerator=accelerator, devices=1).device


def choose_precision(option: str, device: torch.device) -> str:
    """Resolve ``"auto"``: products in bfloat16 where the device has instructions for them, else float32.

    Args:
        option: As for :class:`lightning.pytorch.Trainer`, or ``"auto"``.
        device: Where to compute.

    Example:
        >>> choose_precision("32-true", torch.device("cpu"))
        '32-true'
    """
    if option != "auto":
        return option
    return "bf16-mixed" if has_bfloat16(device) else "32-true"


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether a device multiplies bfloat16 in hardware; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let the body compute with one thread: PyTorch, and the libraries below numpy and scikit-learn.

    Small networks gain little from threads, and sums over threads round differently from machine to machine.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Let this process keep what tensors free for the next ones; does nothing where the C library is not GNU's.

    That library gives a weight's memory back to the system and gets it again in each step, page by page, which was a
    quarter of the time of a wide network's step.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)

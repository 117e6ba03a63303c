"""Ending on SIGINT and SIGTERM: an exception in the main thread, which every command takes to its end in order."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """The process was asked to end; no error, so that nothing which handles errors takes it for one.

    Args:
        number: The signal.
        kept: What is kept and how to go on, in one line.

    Attributes:
        number: The signal.
        kept: What is kept and how to go on; empty where nobody has said it yet.

    Example:
        >>> Stopped(signal.SIGTERM).status
        143
    """

    def __init__(self, number: int, kept: str = "") -> None:
        super().__init__(number, kept)
        self.number = number
        self.kept = kept

    @property
    def status(self) -> int:
        """Exit status by convention: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.number


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise :class:`Stopped` in the main thread, wherever it is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def keeping(kept: Callable[[], str]) -> Iterator[None]:
    """Say of a stop within the body what is kept and how to go on."""
    try:
        yield
    except Stopped as stop:
        stop.kept = stop.kept or kept()
        raise


def speaks_for_its_job() -> bool:
    """Whether this is the one process of a job, or the first of several, by what launchers say to theirs.

    Example:
        >>> speaks_for_its_job()
        True
    """
    ranks = (os.environ.get(name, "0") for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK"))
    return all(rank in ("", "0") for rank in ranks)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped(number)

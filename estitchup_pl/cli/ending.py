"""The end of a command that did not come to its own."""

from __future__ import annotations

import sys
from contextlib import suppress

import psutil

from estitchup_pl.stopping import Stopped, speaks_for_its_job


def end(stop: Stopped, since: float) -> int:
    """End the processes that a command has started, say what is kept, and return the exit status.

    Args:
        stop: The stop, with what the command has said about it.
        since: When the command began, in seconds since 1970.
    """
    end_children(since)
    if speaks_for_its_job():
        print(f"stopped: {stop.kept or 'nothing is left half-written; the same command begins anew'}", file=sys.stderr)
    return stop.status


def end_children(since: float) -> None:
    """Ask processes that this one has started to end: ranks and workers would wait for it, some of them for long.

    Args:
        since: Earliest start of those that are meant, in seconds since 1970.
    """
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # ended by itself
            if child.create_time() >= since - 1:  # by a clock that ticks a hundred times a second
                child.terminate()

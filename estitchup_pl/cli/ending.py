"""The end of a command that was asked to stop."""

from __future__ import annotations

import sys
from contextlib import suppress

import psutil

from estitchup_pl.stopping import Stopped, speaks_for_its_job


def end(stop: Stopped) -> int:
    """End the processes that this one has started, say what is kept, and return the exit status.

    Args:
        stop: The stop, with what the command has said about it.
    """
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # ended by itself
            child.terminate()
    if speaks_for_its_job():
        print(f"stopped: {stop.kept or 'nothing is left half-written; the same command begins anew'}", file=sys.stderr)
    return stop.status

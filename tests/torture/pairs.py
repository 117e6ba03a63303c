"""Two commands on one folder at the same time: one does its work, the other waits or says why not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from children import Outcome, WrongResultError, judged, start, status_of
from commands_at_work import WORK, Work, call, fresh
from kills import SECONDS, uninterrupted


def pairs(name: str, count: int, seed: int, place: Path) -> Iterator[Outcome]:
    """Start a command twice, at times that lie closely together."""
    work = WORK[name]
    expected, seconds = uninterrupted(work, place / "whole")
    for number in range(count):
        pause = float(np.random.default_rng([seed, number]).uniform(0, seconds / 2)) if number % 3 else 0.0
        yield Outcome(f"{name}, pair {number}", *judged(partial(_pair, work, place / "pair", pause, expected)))


def _pair(work: Work, folder: Path, pause: float, expected: object) -> None:
    fresh(work, folder)
    words = work.words(folder)
    children = []
    for log in ("log.txt", "second.txt"):
        children.append(start(lambda: call(words), folder, log))
        time.sleep(pause)
    statuses = [status_of(child, SECONDS) for child in children]
    said = (folder / "second.txt").read_text(errors="replace") + (folder / "log.txt").read_text(errors="replace")
    if 0 not in statuses or not set(statuses) <= {0, 1, 2}:
        raise WrongResultError(f"ended with {statuses}: {said[-1500:]}")
    if "Traceback" in said:
        raise WrongResultError(said[-1500:])
    if work.result(folder) != expected:
        raise WrongResultError(f"left something else, ended with {statuses}: {said[-500:]}")

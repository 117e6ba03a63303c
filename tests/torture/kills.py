"""Kills: at random moments, and within every rename; what is left is whole, and the same command goes on to the end."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from children import Outcome, WrongResultError, judged, start, status_of
from commands_at_work import WORK, Work, call, fresh, whole_or_refused

SECONDS = 1200
"""What a command may take, beside other work."""

MOVES = ("replace", "rename", "unlink", "rmdir")
"""What a file system is asked for where a command puts something in place."""


def kills(name: str, count: int, seed: int, place: Path) -> Iterator[Outcome]:
    """Kill a command at random moments, every other time on a second file system, where there is one."""
    work, places = WORK[name], [place, *_second_file_system(place)]
    expected, seconds = uninterrupted(work, place / "whole")
    for number in range(count):
        random = np.random.default_rng([seed, number])
        folder = places[number % len(places)] / f"kill-{number}"
        case = partial(_killed_at, work, folder, float(random.uniform(0, seconds)), expected)
        yield Outcome(f"{name}, kill {number}", *judged(case))
        shutil.rmtree(folder, ignore_errors=True)
    for other in places[1:]:
        other.rmdir()


def crash_points(name: str, count: int, place: Path) -> Iterator[Outcome]:
    """Kill a command before and after its moves of files; before or after so many of them, where it makes more."""
    work = WORK[name]
    expected, _ = uninterrupted(work, place / "whole")
    points = 2 * _count_moves(work, place / "count")
    for point in sorted({round(at) for at in np.linspace(0, points - 1, min(count, points))}):
        case = partial(_killed_within, work, place / "crash", point, expected)
        moment = f"{'after' if point % 2 else 'before'} move {point // 2}"
        yield Outcome(f"{name}, {moment}", *judged(case))


def uninterrupted(work: Work, folder: Path) -> tuple[object, float]:
    """What a command leaves when nobody disturbs it, and how long it takes."""
    fresh(work, folder)
    began = time.monotonic()
    _to_the_end(work, folder)
    return work.result(folder), time.monotonic() - began


def _to_the_end(work: Work, folder: Path) -> None:
    status = status_of(start(lambda: call(work.words(folder)), folder), SECONDS)
    if status:
        said = (folder / "log.txt").read_text(errors="replace")[-1500:]
        raise WrongResultError(f"the command that should go on ended with {status}: {said}")


def _goes_on(work: Work, folder: Path, expected: object) -> None:
    whole_or_refused(work, folder)  # raises for what is neither
    _to_the_end(work, folder)
    if work.result(folder) != expected:
        raise WrongResultError("the command that went on left something else")


def _killed_at(work: Work, folder: Path, seconds: float, expected: object) -> None:
    child = start(lambda: call(work.words(folder)), fresh(work, folder))
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    _goes_on(work, folder, expected)


def _killed_within(work: Work, folder: Path, point: int, expected: object) -> None:
    fresh(work, folder)
    status = status_of(start(lambda: _crashing(point, lambda: call(work.words(folder))), folder), SECONDS)
    if status not in (0, -signal.SIGKILL):  # as many moves are not made each time
        raise WrongResultError(f"ended with {status} before it was killed")
    _goes_on(work, folder, expected)


def _crashing(point: int, run: Callable[[], int]) -> int:
    """Run with a process that kills itself before (even) or after (odd) the move of this number."""
    made = [0]

    def watched(move: Callable[..., Any], *given: Any, **options: Any) -> Any:
        number, made[0] = made[0], made[0] + 1
        if 2 * number == point:
            os.kill(os.getpid(), signal.SIGKILL)
        result = move(*given, **options)
        if 2 * number + 1 == point:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    for name in MOVES:
        setattr(os, name, partial(watched, getattr(os, name)))
    return run()


def _count_moves(work: Work, folder: Path) -> int:
    fresh(work, folder)

    def counting() -> int:
        made = []
        for name in MOVES:
            move = getattr(os, name)

            def counted(*given: Any, move: Callable[..., Any] = move, **options: Any) -> Any:
                made.append(move)
                return move(*given, **options)

            setattr(os, name, counted)
        status = call(work.words(folder))
        (folder / "moves.txt").write_text(str(len(made)))
        return status

    status_of(start(counting, folder), SECONDS)
    return int((folder / "moves.txt").read_text())


def _second_file_system(place: Path) -> list[Path]:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == place.stat().st_dev:
        return []
    folder = other / f"torture-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    return [folder]

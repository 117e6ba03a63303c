"""Several processes of which one is killed: the others end within a minute, and say so."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from children import Outcome, WrongResultError, judged, start, status_of
from commands_at_work import CPU, QUIET, call
from toys import run_letters, words, write_table

WITHIN = 60
"""Seconds in which the others have to end."""


def fits(processes: int, count: int, seed: int, place: Path) -> Iterator[Outcome]:
    """Fit in several processes; kill one of them in the middle, the first and others by turns."""
    for number in range(count):
        victim, after = number % processes, float(np.random.default_rng([seed, number]).uniform(0.5, 4))
        case = partial(_killed_rank, place / str(number), processes, victim, after)
        yield Outcome(f"fit, rank {victim} of {processes}, {number}", *judged(case))


def embeddings(processes: int, count: int, place: Path) -> Iterator[Outcome]:
    """Embed in several processes, likewise."""
    for number in range(count):
        victim = number % processes
        case = partial(_killed_embedding, place / str(number), processes, victim)
        yield Outcome(f"embed, rank {victim} of {processes}, {number}", *judged(case))


def _words(processes: int) -> list[str]:
    options = [*QUIET, *CPU]
    options[options.index("--trainer.devices") + 1] = str(processes)
    several = ["--trainer.strategy", "ddp"] if processes > 1 else []
    return ["fit", "--data.store", "digits", *options, *several, "--trainer.max_epochs", "100000"]


def _killed_rank(folder: Path, processes: int, victim: int, after: float) -> None:
    folder.mkdir(parents=True)
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(processes),
        "NODE_RANK": "0",
    }
    children = [
        start(
            lambda: call(_words(processes)),
            folder,
            f"rank-{rank}.txt",
            {**common, "LOCAL_RANK": str(rank)} if processes > 1 else {},
        )
        for rank in range(processes)
    ]
    _wait_for_checkpoint(folder, children)
    time.sleep(after)
    os.kill(children[victim], signal.SIGKILL)
    os.waitpid(children[victim], 0)
    for rank, child in enumerate(children):
        if rank != victim:
            status = status_of(child, WITHIN)
            said = (folder / f"rank-{rank}.txt").read_text(errors="replace")
            if status not in (1, 2):
                raise WrongResultError(f"rank {rank} ended with {status}: {said[-800:]}")
            if "Traceback" in said:
                raise WrongResultError(f"rank {rank} shows a traceback: {said[-800:]}")


def _killed_embedding(folder: Path, processes: int, victim: int) -> None:
    folder.mkdir(parents=True)
    write_table(
        folder / "items.parquet",
        {"id": [str(row) for row in range(2_000)], "title": words(2_000), "note": words(2_000)},
    )
    port = _free_port()
    children = [
        start(partial(run_letters, str(folder), None, 0.2, (rank, processes, port)), folder, f"rank-{rank}.txt")
        for rank in range(processes)
    ]
    ends = time.monotonic() + 240
    while not list(folder.rglob("*.npy")) and time.monotonic() < ends:
        time.sleep(0.05)
    os.kill(children[victim], signal.SIGKILL)
    os.waitpid(children[victim], 0)
    for rank, child in enumerate(children):
        if rank != victim:
            status = status_of(child, WITHIN)
            said = (folder / f"rank-{rank}.txt").read_text(errors="replace")
            named = re.search(rf"process(?:es)? ([\d, ]+) of {processes} ha(?:s|ve) ended", said)
            if status in (0, 1000) or named is None or str(victim) not in named[1].split(", "):
                raise WrongResultError(f"rank {rank} ended with {status}: {said[-800:]}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for_checkpoint(folder: Path, children: list[int]) -> None:
    ends = time.monotonic() + 240
    while not list(folder.rglob("last.ckpt")):
        if time.monotonic() > ends:
            for child in children:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            raise WrongResultError(f"no epoch in time: {(folder / 'rank-0.txt').read_text()[-800:]}")
        time.sleep(0.05)

"""The parts of the torture, each of kinds that run side by side, with the number of cases of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from children import Outcome
from commands_at_work import WORK
from disks import disks
from inputs import damaged_inputs
from kills import crash_points, kills
from numerics import NUMERICS, numerics
from pairs import pairs
from ranks import embeddings, fits
from readers import READERS

Kind = Callable[[float, int, Path], Iterator[Outcome]]
"""Runs a share of the cases of a kind with a seed in an empty folder."""

KILLS = {"fit": 20, "predict": 12, "study": 10, "queue": 10, "train": 3, "export": 8}
"""Kills at random moments; of the others 24."""

POINTS = {"fit": 16, "predict": 8, "study": 12, "queue": 8, "train": 3, "export": 8}
"""Kills before and after moves of files; of the others 24."""

PAIRS = {"store create": 8, "store create (overwrite)": 8, "embed": 6, "labels": 6, "train": 1}
"""Pairs of commands; of the others 3."""


def _some(whole: int, scale: float) -> int:
    return max(1, round(whole * scale))


def _damaged(name: str, scale: float, seed: int, folder: Path) -> Iterator[Outcome]:
    return damaged_inputs(name, _some(11 * READERS[name].share, scale), seed, folder)


def _killed(name: str, scale: float, seed: int, folder: Path) -> Iterator[Outcome]:
    return kills(name, _some(KILLS.get(name, 24), scale), seed, folder)


def _killed_in_moves(name: str, scale: float, seed: int, folder: Path) -> Iterator[Outcome]:
    return crash_points(name, _some(POINTS.get(name, 24), scale), folder)


def _paired(name: str, scale: float, seed: int, folder: Path) -> Iterator[Outcome]:
    return pairs(name, _some(PAIRS.get(name, 3), scale), seed, folder)


def _on_disks(name: str, scale: float, seed: int, folder: Path) -> Iterator[Outcome]:
    return disks(name, _some(2 if name == "train" else 6, scale), folder)


def _lost_fit(processes: int, scale: float, seed: int, folder: Path) -> Iterator[Outcome]:
    return fits(processes, _some(3, scale), seed, folder)


def _lost_embedding(processes: int, scale: float, seed: int, folder: Path) -> Iterator[Outcome]:
    return embeddings(processes, _some(3, scale), folder)


def _numbers(name: str, scale: float, seed: int, folder: Path) -> Iterator[Outcome]:
    return numerics(name, _some(1000 if name == "functions" else 40, scale))


PARTS: Mapping[str, Mapping[str, Kind]] = {
    "kills": {
        **{name: partial(_killed, name) for name in WORK},
        **{f"{name}, moves": partial(_killed_in_moves, name) for name in WORK},
    },
    "pairs": {name: partial(_paired, name) for name in WORK},
    "disks": {name: partial(_on_disks, name) for name in WORK},
    "ranks": {
        **{f"fit in {count}": partial(_lost_fit, count) for count in (1, 2, 3)},
        **{f"embed in {count}": partial(_lost_embedding, count) for count in (2, 3)},
    },
    "inputs": {name: partial(_damaged, name) for name in READERS},
    "numerics": {name: partial(_numbers, name) for name in NUMERICS},
}

"""The parts of the torture, with the number of cases of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from children import Outcome
from disks import disks
from inputs import damaged_inputs
from kills import crash_points, kills
from numerics import numerics
from pairs import pairs
from ranks import ranks

Part = Callable[[float, int, Path], Iterator[tuple[str, Outcome]]]

PARTS: dict[str, Part] = {
    "inputs": lambda scale, seed, folder: damaged_inputs(round(11_000 * scale), seed, folder),
    "kills": lambda scale, seed, folder: chain(
        kills(round(160 * scale), seed, folder), crash_points(min(1.0, 0.25 * scale), folder)
    ),
    "pairs": lambda scale, seed, folder: pairs(max(6, round(36 * scale)), seed, folder),
    "disks": lambda scale, seed, folder: disks(scale, folder),
    "ranks": lambda scale, seed, folder: ranks(max(2, round(9 * scale)), seed, folder),
    "numerics": lambda scale, seed, folder: numerics(scale, folder),
}

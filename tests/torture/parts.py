"""The parts of the torture, with the number of cases of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from children import Outcome
from inputs import damaged_inputs

Part = Callable[[float, int, Path], Iterator[tuple[str, Outcome]]]

PARTS: dict[str, Part] = {
    "inputs": lambda scale, seed, folder: damaged_inputs(round(11_000 * scale), seed, folder),
}

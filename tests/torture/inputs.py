"""Damaged inputs for every reader: the right result, or one of our errors."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
from children import Case, Outcome, WrongResultError, run_all
from damage import damaged
from readers import READERS

from estitchup_pl.errors import EstitchupError


def damaged_inputs(name: str, count: int, seed: int, place: Path) -> Iterator[Outcome]:
    """Damage samples of a reader and have it read them.

    Args:
        name: Its name.
        count: Number of inputs.
        seed: Of the damage.
        place: Folder to work in.
    """
    sample = place / "sample"
    sample.mkdir(parents=True)
    READERS[name].make(sample)
    names = (f"{name}, {seed}, {number}" for number in range(count))
    yield from run_all([Case(each, partial(_one, name, sample, [seed, number])) for number, each in enumerate(names)])


def _one(name: str, sample: Path, seed: list[int]) -> None:
    """Damage one file of a copy of a sample (now and then two), and read it."""
    random, reader, expected = np.random.default_rng(seed), READERS[name], _expected(name, sample)
    copy = sample.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(sample, copy)
    files = sorted(path for path in copy.glob(reader.damaged) if path.is_file())
    count = min(len(files), 1 + (random.random() < 0.1))
    chosen = [files[at] for at in random.choice(len(files), count, replace=False)]
    for path in chosen:
        path.write_bytes(damaged(path.read_bytes(), random))
    found = repr(reader.read(copy))
    if reader.exact and found != expected:
        raise WrongResultError(f"{[str(path.relative_to(copy)) for path in chosen]}: {_difference(expected, found)}")


@cache
def _expected(name: str, sample: Path) -> str:
    whole = shutil.copytree(sample, sample.with_name("whole"), dirs_exist_ok=True)
    try:
        return repr(READERS[name].read(whole))
    except EstitchupError as error:
        raise WrongResultError(f"the sample itself is refused: {error}") from error


def _difference(expected: str, found: str) -> str:
    at = next((at for at, pair in enumerate(zip(expected, found, strict=False)) if pair[0] != pair[1]), 0)
    return f"expected {expected[max(at - 40, 0) : at + 60]!r}, got {found[max(at - 40, 0) : at + 60]!r}"

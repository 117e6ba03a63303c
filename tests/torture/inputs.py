"""Damaged inputs for every reader: the right result, or one of our errors."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from children import Case, Outcome, WrongResultError, run_all
from damage import damaged
from readers import READERS, Reader


def damaged_inputs(
    count: int, seed: int, place: Path, names: Sequence[str] = tuple(READERS)
) -> Iterator[tuple[str, Outcome]]:
    """Damage samples and read them; yields the reader's name and how each case ended.

    Args:
        count: Number of inputs, shared among the readers.
        seed: Of the damage.
        place: Folder to work in.
        names: Readers that take part.
    """
    total = sum(READERS[name].share for name in names)
    for name in names:
        reader = READERS[name]
        sample = place / name.replace(" ", "-").replace(",", "").strip("()")
        sample.mkdir(parents=True, exist_ok=True)
        reader.make(sample)
        cases = [
            Case(f"{name}, {seed}, {number}", partial(_one, reader, sample, [seed, number]))
            for number in range(max(1, round(count * reader.share / total)))
        ]
        yield from ((name, outcome) for outcome in run_all(cases))
        shutil.rmtree(sample)


def _one(reader: Reader, sample: Path, seed: list[int]) -> None:
    """Damage one file of a sample (now and then two), read it, and put the file back."""
    random = np.random.default_rng(seed)
    files = sorted(path for path in sample.rglob("*") if path.is_file())
    expected = repr(reader.read(sample)) if reader.exact else None
    count = min(len(files), 1 + (random.random() < 0.1))
    chosen = [files[at] for at in random.choice(len(files), count, replace=False)]
    whole = {path: path.read_bytes() for path in chosen}
    try:
        for path, content in whole.items():
            path.unlink()  # whoever has mapped it keeps what it was
            path.write_bytes(damaged(content, random))
        found = repr(reader.read(sample))
        if expected is not None and found != expected:
            raise WrongResultError(f"{[path.name for path in chosen]}: {_difference(expected, found)}")
    finally:
        for path, content in whole.items():
            path.unlink()
            path.write_bytes(content)


def _difference(expected: str, found: str) -> str:
    at = next((at for at, pair in enumerate(zip(expected, found, strict=False)) if pair[0] != pair[1]), 0)
    return f"expected {expected[max(at - 40, 0) : at + 60]!r}, got {found[max(at - 40, 0) : at + 60]!r}"

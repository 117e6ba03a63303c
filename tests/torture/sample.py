"""A quick sample of the torture, which test_torture.py runs in a process of its own; `make torture` is the long one."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path += [str(HERE.parent / name) for name in ("embed", "study") if str(HERE.parent / name) not in sys.path]

from children import Case, WrongResultError, run_all  # noqa: E402
from damage import damaged  # noqa: E402
from inputs import damaged_inputs  # noqa: E402
from numpy.random import default_rng  # noqa: E402
from parts import PARTS  # noqa: E402
from readers import READERS  # noqa: E402

from estitchup_pl.errors import DataError  # noqa: E402

SAMPLES = {"inputs": 0.008, "numerics": 0.03}
"""Share of the cases of each part that runs here; the others start commands, of which the suite has other tests."""


@pytest.mark.parametrize(("part", "kind"), [(part, kind) for part in SAMPLES for kind in PARTS[part]])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="cases run in forked processes")
def test_a_sample_ends_as_it_should(tmp_path: Path, part: str, kind: str) -> None:
    outcomes = list(PARTS[part][kind](SAMPLES[part], 1, tmp_path))
    assert outcomes
    assert [outcome for outcome in outcomes if not outcome.allowed] == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="cases run in forked processes")
def test_what_must_not_happen_is_noticed() -> None:
    def crash() -> None:
        os.kill(os.getpid(), 11)

    def hang() -> None:
        __import__("time").sleep(60)

    def stray() -> None:
        raise KeyError("odd")

    def greedy() -> None:
        bytes(8 << 30)

    kinds = {"right": int, "crash": crash, "hang": hang, "stray": stray, "greedy": greedy, "after": int}
    outcomes = run_all([Case(name, run) for name, run in kinds.items()], seconds=3)
    found = [(outcome.case, outcome.verdict) for outcome in outcomes]
    verdicts = ["right", "crash", "hang", "error", "error", "right"]
    assert found == list(zip(kinds, verdicts, strict=True))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="cases run in forked processes")
def test_many_cases_run_once_each_in_their_order(tmp_path: Path) -> None:
    def note(number: int) -> None:
        with (tmp_path / "ran.txt").open("a") as file:
            file.write(f"{number}\n")
        if number % 2:
            raise WrongResultError("x" * 500)

    outcomes = list(run_all([Case(str(number), partial(note, number)) for number in range(1000)]))
    assert [outcome.case for outcome in outcomes] == list(map(str, range(1000)))
    assert [outcome.verdict for outcome in outcomes] == ["right", "wrong"] * 500
    assert (tmp_path / "ran.txt").read_text().split() == list(map(str, range(1000)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="cases run in forked processes")
def test_a_sample_that_is_refused_whole_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise DataError("never")

    monkeypatch.setitem(READERS, "npy", READERS["npy"]._replace(read=refuse))
    (outcome,) = damaged_inputs("npy", 1, 0, tmp_path)
    assert outcome.verdict == "wrong"
    assert "the sample itself is refused: never" in outcome.detail


def test_damage_changes_every_file() -> None:
    for content in (b"", b"a", b"some bytes of a file", bytes(10_000)):
        changed = {damaged(content, default_rng(seed)) for seed in range(200)}
        assert content not in changed
        assert len(changed) > (20 if len(content) > 1 else 1)

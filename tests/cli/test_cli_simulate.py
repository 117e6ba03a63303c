"""Rounds of labelling as a user plays them, from the configurations that come along."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from commands import Run, runner

TINY = ("--strategies", "[random, margin]", "--rounds", "1", "--steps", "12")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(tmp_path, monkeypatch, capfd)


def test_a_simulation_ends_with_tables_and_plays_more_trials_later(run: Run, tmp_path: Path) -> None:
    call = ("simulate", "--config", "active_learning", *TINY, "--out", "game")
    status, out, err = run(*call, "--trials", "1")
    assert status == 0, err
    assert "Does choosing pay?" in out
    assert err.count("round ") == 2
    first = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "game" / "rounds").iterdir()}
    status, out, err = run(*call, "--trials", "2")
    assert status == 0, err
    table = pq.read_table(tmp_path / "game" / "rounds.parquet")
    assert table["trial"].to_pylist() == [0, 0, 1, 1] * 2
    assert table["strategy"].to_pylist() == ["random"] * 4 + ["margin"] * 4
    assert first == {name: (tmp_path / "game" / "rounds" / name).stat().st_mtime_ns for name in first}
    sections = (tmp_path / "game" / "tables.md").read_text().split("## ")[1:]
    assert [section.splitlines()[0] for section in sections] == [
        "Accuracy by labels",
        "Classes found by labels",
        "Does choosing pay?",
    ]
    last = table.filter([row == 40 for row in table["labels"].to_pylist()])
    shown = next(line for line in sections[0].splitlines() if line.startswith("| margin"))
    accuracies = [row["accuracy"] for row in last.to_pylist() if row["strategy"] == "margin"]
    assert f"| {sum(accuracies) / 2:.3f} ±" in shown
    status, _, err = run(*call, "--trials", "2", "--initial", "30")
    assert status == 2
    assert "initial was 20 for the rounds that are in game, and is 30 now" in err


def test_a_head_plays_in_the_place_of_a_network(run: Run, tmp_path: Path) -> None:
    files = ("--config", "active_learning", "--config", "active_learning_head")
    status, _, err = run("simulate", *files, *TINY, "--trials", "1", "--out", "game")
    assert status == 0, err
    accuracies = pq.read_table(tmp_path / "game" / "rounds.parquet")["accuracy"].to_pylist()
    assert min(accuracies) > 0.5  # twelve steps of a network do not get there


def test_a_wrong_call_is_explained(run: Run) -> None:
    status, _, err = run("simulate", "--config", "active_learning", "--strategies", "[margn]", "--out", "game")
    assert status == 2
    assert "there is no 'margn'" in err
    assert run("simulate", "--config", "active_learning", "--out", "game", "--round", "1")[2].count("'--rounds'") == 1

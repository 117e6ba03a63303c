"""One process and two gloo processes: the same metrics, the same predictions, bit-equal weights after resuming."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from blobs import blobs_store
from processes import METHODS, ODD, SPLIT, evaluate, fit, resume, show, solve
from training import SMALL, data

from estitchup_pl import EmbeddingClassifier
from estitchup_pl.functional import acceptance, select_threshold
from estitchup_pl.model import Temperature

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("processes")
    fit(place, METHODS["sum"](), epochs=6)
    (place / "epoch-6.ckpt").rename(place / "model.ckpt")
    return place


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, float]:
    return evaluate(folder, "alone.parquet")


@pytest.fixture(scope="module")
def two(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}",
        "PL_GLOBAL_SEED": "0",
    }
    result = subprocess.run(
        [*command, TESTS / "processes.py", folder], env=environment, capture_output=True, text=True, timeout=280
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads((folder / "results.json").read_text())


def test_two_processes_test_like_one(alone: dict[str, float], two: dict[str, Any]) -> None:
    assert two["test"].keys() == alone.keys()
    assert 0 < alone["test/threshold"] < 1
    assert two["test"] == pytest.approx(alone, abs=1e-6)


def test_two_processes_show_the_rows_of_both(folder: Path, two: dict[str, Any]) -> None:
    alone = show(folder)
    assert set(alone) == {"test/classes", "test/items_near_the_threshold"}
    for name, rows in alone.items():
        assert len(two["shown"][name]) == len(rows)
        for mine, theirs in zip(rows, two["shown"][name], strict=True):
            for cell, other in zip(mine, theirs, strict=True):
                assert cell == (pytest.approx(other, abs=2e-4) if isinstance(cell, float) else other)


def test_two_processes_predict_each_row_once_and_like_one(folder: Path, alone: Any, two: Any) -> None:
    first, second = (pq.read_table(folder / name) for name in ("alone.parquet", "several.parquet"))
    assert first.column("id").to_pylist() == [f"item-{row}" for row in range(ODD + 10)]
    for name in ("id", "predicted", "threshold", "top_classes"):
        assert first.column(name).equals(second.column(name))
    scores = (table.column("none_score").to_pylist() for table in (first, second))
    assert next(scores) == pytest.approx(next(scores), abs=1e-6)
    assert first.column("confidence").to_pylist() == pytest.approx(second.column("confidence").to_pylist(), abs=1e-6)
    assert not list(folder.glob(".*"))


def test_two_processes_fit_a_decision_like_one(folder: Path, two: dict[str, Any], tmp_path: Path) -> None:
    """Their weights differ, since they draw their own numbers; so the same weights are validated by both."""
    path = folder / "sum" / "epoch-3.ckpt"
    fitted = EmbeddingClassifier.load_from_checkpoint(path, network=SMALL)
    score, bank = fitted.decision.score, fitted.decision.score.scores[1].bank
    rows = data(split=SPLIT, store=blobs_store(ODD))
    rows.setup("fit")
    batches = {name: list(loader) for name, loader in (("train", rows.training_rows()), ("val", rows.val_dataloader()))}
    trained = fitted.scale(torch.cat([batch.embeddings for batch in batches["train"]]))
    assert torch.equal(bank, torch.nn.functional.normalize(trained, dim=1).half())
    embeddings = fitted.scale(torch.cat([batch.embeddings for batch in batches["val"]]))
    labels = torch.cat([batch.labels for batch in batches["val"]])
    logits = fitted(embeddings).detach()
    alone = Temperature()
    alone.fit(logits, labels)
    assert float(fitted.decision.calibrator.temperature) == pytest.approx(float(alone.temperature), rel=1e-5)
    natural = score.scores[1].natural(embeddings, logits)
    assert float(score.mean[1]) == pytest.approx(float(natural.mean()), rel=1e-5)
    decided = fitted.decision(embeddings, logits)
    accepted = acceptance(decided.probabilities, decided.none_scores)
    expected = select_threshold(accepted, decided.probabilities.argmax(dim=1), labels)
    assert fitted.threshold == pytest.approx(float(expected), abs=1e-6)


def test_the_first_process_solves_a_head_for_all(two: dict[str, Any], tmp_path: Path) -> None:
    alone = solve(tmp_path)
    assert any(alone)
    assert two["head"] == alone + alone


def test_a_resumed_fit_on_two_processes_is_bit_equal(two: dict[str, Any]) -> None:
    assert two["resume"] == dict.fromkeys(METHODS, True)


def test_a_resumed_fit_is_bit_equal(tmp_path: Path) -> None:
    assert resume(tmp_path) == dict.fromkeys(METHODS, True)


def test_processes_draw_their_own_numbers(folder: Path, two: Any, tmp_path: Path) -> None:
    both = torch.load(folder / "soft_e_mixup" / "epoch-1.ckpt", weights_only=True)["state_dict"]
    single = fit(tmp_path, METHODS["soft_e_mixup"](), epochs=1).state_dict()
    assert not torch.equal(both["network.0.weight"], single["network.0.weight"])

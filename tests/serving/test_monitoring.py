"""Batches of decisions against what was expected: no alarm without a change, one where there is, and what it says."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from commands import Run, runner
from made_models import CLASSES, fitted

from estitchup_pl.batch import NONE
from estitchup_pl.errors import CheckpointError, ConfigError, DataError
from estitchup_pl.model.expectation import MOST_ROWS, Expectation
from estitchup_pl.model.saving import save_classifier
from estitchup_pl.serving.drift import compare_classes, compare_distributions, compare_shares, holm, unknown_share
from estitchup_pl.serving.monitoring import CLASSES as CLASSES_MOVED
from estitchup_pl.serving.monitoring import CONFIDENCE, NONE_SCORE, NONE_SHARE, Batch, monitor

SHARES = (0.4, 0.3, 0.2, 0.1)
run = pytest.fixture(runner)


def decided(
    rows: int, seed: int, unknown: float = 0.1, sharpness: float = 6.0, shares: tuple[float, ...] = SHARES
) -> Batch:
    """Decisions about items of which some are unknown: their scores of "none" are high, the others' low."""
    source = np.random.default_rng(seed)
    known = source.random(rows) >= unknown
    scores = np.where(known, source.beta(2, sharpness, rows), source.beta(6, 2, rows))
    names = source.choice(CLASSES, rows, p=shares)
    predicted = ["none" if score > 0.6 else str(name) for score, name in zip(scores, names, strict=True)]
    return Batch([f"item {row}" for row in range(rows)], predicted, 1 - scores**2, scores, known)


REFERENCE = decided(2000, 10_000)
UNLABELLED = replace(REFERENCE, known=None)


def test_without_a_change_alarms_are_as_rare_as_promised() -> None:
    alpha, seeds = 0.05, 200
    pairs = ((decided(400, seed), replace(decided(700, seeds + seed), known=None)) for seed in range(seeds))
    alarms = sum(monitor(*pair, alpha, 0.0).has_drifted for pair in pairs)
    assert alarms <= 20  # 10 are promised; 21 or more come once in a thousand such tests
    assert alarms >= 1  # a monitor that never speaks is none


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"unknown": 0.25}, {NONE_SHARE}),
        ({"sharpness": 4.0}, {CONFIDENCE, NONE_SCORE}),
        ({"shares": (0.1, 0.2, 0.3, 0.4)}, {CLASSES_MOVED}),
    ],
)
def test_a_change_is_seen_where_it_is(change: dict[str, float], found: set[str]) -> None:
    for seed in range(10):
        seen = monitor(decided(1000, seed, **change), UNLABELLED)  # type: ignore[arg-type]
        assert found <= {finding.name for finding in seen.findings if finding.has_changed}
        assert seen.has_drifted


def test_a_change_within_the_tolerance_is_none_however_sure_it_is() -> None:
    batch, reference = decided(30_000, 0, unknown=0.12), replace(decided(30_000, 1, unknown=0.1), known=None)
    assert monitor(batch, reference).findings[0].adjusted < 1e-3
    assert not monitor(batch, reference).has_drifted
    assert monitor(batch, reference, tolerance=0.01).has_drifted


def test_the_share_of_unknown_items_is_found_without_labels() -> None:
    inside = 0
    for seed in range(40):
        truth = (0.0, 0.1, 0.3, 0.6)[seed % 4]
        batch = decided(600, seed, unknown=truth)
        share, low, high = monitor(batch, REFERENCE).unknown or (9.0, 9.0, 9.0)
        assert abs(share - truth) < 0.08
        inside += low - 1e-9 <= truth <= high
    assert inside >= 34  # of 40, where 38 are to be expected
    called = float(decided(2000, 3, unknown=0.6).is_none.mean())
    assert called < 0.53  # what is called "none" is another share, which the estimate corrects


def test_a_mixture_is_found_as_by_the_greatest_likelihood() -> None:
    source = np.random.default_rng(1)
    known, none = source.integers(0, 10, 4000) / 10, source.integers(5, 15, 4000) / 10
    scores = np.concatenate([known[:700], none[:300]])
    grid = np.linspace(0.001, 0.999, 999)
    edges = np.unique(np.quantile(np.concatenate([known, none]), np.linspace(0, 1, 11)[1:-1]))
    masses = [np.bincount(np.searchsorted(edges, part), minlength=len(edges) + 1) + 0.5 for part in (known, none)]
    first, second = (mass / mass.sum() for mass in masses)
    counts = np.bincount(np.searchsorted(edges, scores), minlength=len(edges) + 1)
    likelihood = [(counts * np.log((1 - share) * first + share * second)).sum() for share in grid]
    assert unknown_share(scores, known, none)[0] == pytest.approx(grid[int(np.argmax(likelihood))], abs=0.003)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    source, shares, means = np.random.default_rng(2), 0, 0
    for seed in range(100):
        rows = source.beta(2, 5, 300)
        means += (found := compare_distributions(rows, rows, resamples=300, seed=seed)).low <= 2 / 7 <= found.high
        shares += (share := compare_shares(source.random(200) < 0.1, np.ones(5, bool))).low <= 0.1 <= share.high
    assert 88 <= means <= 100
    assert 88 <= shares <= 100


def test_rare_classes_are_counted_together() -> None:
    many = [f"class {number}" for number in range(500)]
    source = np.random.default_rng(3)
    found = compare_classes(source.choice(many, 400).tolist(), source.choice(many, 400).tolist())
    assert found.p_value > 0.01
    assert compare_classes(["a"] * 100, ["b"] * 100)[4:] == pytest.approx((1.0, 0.0), abs=1e-9)


def test_the_share_of_moved_classes_lies_within_its_interval_and_beside_what_chance_moves() -> None:
    source, names = np.random.default_rng(3), [f"class {number}" for number in range(8)]
    inside = []
    for _ in range(100):
        found, expected = source.choice(names, 20).tolist(), source.choice(names, 70).tolist()
        difference = compare_classes(found, expected)
        assert difference.low <= difference.found <= difference.high
        inside.append(difference.found - difference.expected)
    assert abs(np.mean(inside)) < 0.03  # nothing has changed, so what is found is what chance moves
    great = compare_classes(["a"] * 500 + ["b"] * 500, ["a"] * 900 + ["b"] * 100)
    assert great.found == pytest.approx(0.4)
    drawn = np.abs(source.binomial(1000, 0.5, 20_000) / 1000 - 0.9)
    assert [great.low, great.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.01)


def test_p_values_are_adjusted_as_holm_does() -> None:
    assert holm([0.04, 0.001, 0.3]) == pytest.approx([0.08, 0.003, 0.3])
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def test_a_side_without_accepted_items_is_compared_by_its_share_alone() -> None:
    nothing = Batch(["a"] * 50, ["none"] * 50, np.full(50, 0.5), np.full(50, 0.9))
    seen = monitor(nothing, REFERENCE)
    assert [finding.name for finding in seen.findings] == [NONE_SHARE]
    assert seen.has_drifted
    assert "none_first" in seen.advice[0]


def test_classes_that_were_held_out_to_find_none_are_no_drift() -> None:
    batch = decided(1000, 5)
    kept = np.array([name != "hat" for name in REFERENCE.predicted])
    names = [name for name in REFERENCE.predicted if name != "hat"]
    held_out = Batch([], names, REFERENCE.confidence[kept], REFERENCE.none_scores[kept], REFERENCE.known[kept])  # type: ignore[index]
    for reference, expected in ((held_out, False), (replace(held_out, known=None), True)):
        changed = {one.name: one.has_changed for one in monitor(batch, reference).findings}
        assert changed[CLASSES_MOVED] == expected


def written(batch: Batch, path: Path) -> Path:
    columns = {
        "id": list(batch.ids),
        "predicted": list(batch.predicted),
        "confidence": pa.array(batch.confidence, pa.float32()),
        "none_score": batch.none_scores,
    }
    columns = {name: [*column, None] if name != "id" else [*column, "last"] for name, column in columns.items()}
    table = pa.table(columns)
    pq.write_table(table, path) if path.suffix == ".parquet" else pa.csv.write_csv(table, path)
    return path


def test_the_command_says_so_by_words_status_and_page(run: Run, tmp_path: Path) -> None:
    same, other = (
        written(decided(800, seed, unknown=share), tmp_path / name)
        for seed, share, name in ((1, 0.1, "same.parquet"), (2, 0.3, "other.csv"))
    )
    reference = written(REFERENCE, tmp_path / "reference.parquet")
    status, said, _ = run("monitor", same, "--reference", reference)
    assert status == 0
    assert said.startswith("800 items against 2,000 expected ones\n")
    assert "CHANGED" not in said
    status, said, _ = run("monitor", other, "--reference", reference, "--json")
    assert status == 3
    found = json.loads(said)
    assert found["drift"] is True
    assert found["findings"][0]["changed"] is True
    assert "estitchup queue --strategy none_first" in found["advice"][0]
    highest = int(np.argmax(decided(800, 2, unknown=0.3).none_scores))
    assert found["label_first"][0] == f"item {highest}"


def test_the_page_is_one_file_with_everything_escaped(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("vl_convert")
    evil = "<script>alert(1)</script>"
    batch = decided(400, 3)
    named = Batch(
        [evil] * 400, [name.replace("hat", evil) for name in batch.predicted], *(batch.confidence, batch.none_scores)
    )
    status, _, _ = run(
        "monitor",
        written(named, tmp_path / "new.parquet"),
        "--reference",
        written(REFERENCE, tmp_path / "old.parquet"),
        "--out",
        "page.html",
    )
    page = (tmp_path / "page.html").read_text()
    assert status == 3
    assert evil not in page
    assert page.count("&lt;script&gt;") >= 2
    assert page.count("<svg") == 2
    assert not re.search(r"https?:", page.replace("http://www.w3.org", ""))
    assert "Something has changed" in page


def test_a_checkpoint_says_what_it_expects(run: Run, tmp_path: Path) -> None:
    model = fitted()
    codes = torch.tensor([CLASSES.index(name) if name != "none" else NONE for name in REFERENCE.predicted])
    known = torch.from_numpy(REFERENCE.known)
    kept = Expectation(
        codes, *(torch.from_numpy(column).float() for column in (REFERENCE.confidence, REFERENCE.none_scores)), known
    )
    model.decision.expectation = kept
    save_classifier(model, tmp_path / "model.ckpt")
    status, said, _ = run(
        "monitor", written(decided(800, 4, unknown=0.3), tmp_path / "new.parquet"), "--ckpt_path", "model.ckpt"
    )
    assert status == 3
    assert "unknown items, estimated without labels: 0." in said
    model.decision.expectation = None
    save_classifier(model, tmp_path / "nothing.ckpt")
    status, _, said = run("monitor", "new.parquet", "--ckpt_path", "nothing.ckpt")
    assert status == 1
    assert "--reference" in said


def test_what_is_kept_follows_other_classes_and_is_checked() -> None:
    labels = torch.tensor([0, 1, NONE, 1])
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.1], [0.1, 0.7]])
    kept = Expectation.of(probabilities, 1 - probabilities.amax(dim=1), 0.65, labels)
    assert kept.predicted.tolist() == [0, 1, NONE, 1]
    moved = kept.for_classes(torch.tensor([-1, 1, 0]))
    assert moved.predicted.tolist() == [2, 1, NONE, 1]
    assert kept.for_classes(torch.tensor([1])).predicted.tolist() == [0, NONE, 0]
    assert kept.for_classes(torch.tensor([1])).known.tolist() == [True, False, True]
    again = Expectation.unpack(kept._asdict())
    assert all(torch.equal(*pair) for pair in zip(again or (), kept, strict=True))
    with pytest.raises(CheckpointError, match="damaged"):
        Expectation.unpack({**kept._asdict(), "confidence": kept.confidence + 1})
    large = Expectation.of(torch.rand(9000, 2), torch.rand(9000), 0.5, torch.zeros(9000).long())
    assert len(large.predicted) == MOST_ROWS


def test_files_that_are_no_predictions_are_told(tmp_path: Path) -> None:
    for name, content, reason in (
        ("a.csv", "id,predicted\n1,hat\n", "no column 'confidence'"),
        ("b.parquet", "no parquet", "cannot be read"),
        ("c.csv", "id,predicted,confidence,none_score\n", "nothing of any item"),
        ("d.csv", "id,predicted,confidence,none_score\n1,hat,nan,0.5\n", "no number"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match=reason):
            Batch.read(tmp_path / name)
    with pytest.raises(DataError, match="missing"):
        Batch.read(tmp_path / "missing.parquet")
    with pytest.raises(ConfigError, match="alpha"):
        monitor(REFERENCE, REFERENCE, alpha=0.0)

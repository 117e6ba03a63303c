"""What is chosen, by what, and that no test row has a part in it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence

import numpy as np
import oracles
import pytest
import scipy.stats
import torch
from scipy.special import expit, logit
from small import SPLIT, digits_config, method

from estitchup_pl.batch import NONE
from estitchup_pl.errors import ConfigError
from estitchup_pl.report import study_tables
from estitchup_pl.study import Candidate, Chosen, StudyFolder, run_study, select
from estitchup_pl.study.choosing import best_of_equals


def candidate(name: str, scores: Sequence[float], eces: Sequence[float] = (0.1, 0.1, 0.1)) -> Candidate:
    return Candidate(name, tuple(scores), tuple(eces))


def test_the_best_is_taken_where_it_is_better_in_every_split():
    candidates = [candidate("a", (0.5, 0.6, 0.7)), candidate("b", (0.51, 0.61, 0.71))]
    for choose in (best_of_equals, select):
        assert choose(candidates).name == "b"
        assert choose(candidates[::-1]).name == "b"
        assert choose(candidates, higher_is_better=False).name == "a"


def test_among_equals_within_one_standard_error_of_the_difference_the_first_is_taken():
    best, differences = candidate("best", (0.9, 0.5, 0.7)), np.array([0.05, -0.02, 0.03])
    error = differences.std(ddof=1) * math.sqrt(1 / 3 + 3 / 7)  # Nadeau and Bengio's: 0.0315
    equal = candidate("equal", np.array(best.scores) - differences)  # 0.02 less
    assert equal.error_to(best) == pytest.approx(error)
    assert [best_of_equals(pair).name for pair in ([best, equal], [equal, best])] == ["best", "equal"]
    lower = candidate("lower", np.array(best.scores) - differences - 0.02)  # 0.04 less
    assert best_of_equals([lower, best]).name == "best"
    assert best_of_equals([lower, equal, best]).name == "equal"


def test_among_equals_what_is_clearly_worse_calibrated_is_dropped():
    scores, sure = (0.9, 0.5, 0.7), candidate("sure", (0.9, 0.5, 0.7), (0.1, 0.12, 0.11))
    differences = np.array([-0.02, 0.02, 0.0])
    error = 0.02 * math.sqrt(1 / 3 + 3 / 7)
    bound = float(scipy.stats.t.ppf(1 - 0.05 / 2, 2)) * error  # two are compared, over three splits
    for worse, expected in ((bound + 0.001, "sure"), (bound - 0.001, "first")):
        first = candidate("first", scores, np.array(sure.eces) + differences + worse)
        assert best_of_equals([first, sure]).name == expected
    better = candidate("better target", np.array(scores) + 0.01, np.array(sure.eces) + 0.5)
    assert best_of_equals([sure, better]).name == "better target"


def test_the_first_is_left_where_choosing_pays_and_seldom_for_mere_luck():
    generator = np.random.default_rng(0)

    def left(choose: Callable[[Sequence[Candidate]], Candidate], better: float) -> int:
        """How often of 100 the first of 20 is left, where the last alone is better."""
        times = 0
        for _ in range(100):
            scores = generator.normal(0.5, 0.05, 5) + generator.normal(0, 0.02, (20, 5))
            scores[-1] += better
            candidates = [candidate(str(place), row, [0.1] * 5) for place, row in enumerate(scores)]
            times += choose(candidates) is not candidates[0]
        return times

    assert left(best_of_equals, 0.0) > 25
    assert left(select, 0.0) < 15
    assert left(select, 0.1) > 95


def test_a_first_one_that_is_clearly_worse_calibrated_gives_way():
    first = candidate("first", (0.5, 0.6, 0.7), (0.4, 0.41, 0.4))
    equal = candidate("equal", (0.5, 0.6, 0.69), (0.1, 0.1, 0.11))
    assert select([first, equal]).name == "equal"
    assert select([equal, first]).name == "equal"


def test_the_more_candidates_there_are_the_clearer_the_first_must_be_worse_calibrated_to_give_way():
    noise = np.array([0.01, -0.01, 0.02, -0.02, 0.0])  # where no other is really better
    first = candidate("first", [0.69] * 5, 0.1 + 0.7 * np.array([0.1, 0.16, 0.13, 0.11, 0.15]))
    other = candidate("other", 0.7 + noise, [0.1] * 5)
    third = candidate("third", 0.7 - noise, [0.1] * 5)
    others = [candidate(f"worse {number}", [0.1] * 5, [0.1] * 5) for number in range(60)]
    few, many = [first, other, third], [first, other, third, *others]
    assert not np.isclose(first.ece, 0.1)
    for candidates, expected in ((few, "other"), (many, "first")):
        assert best_of_equals(candidates).name == "other"
        assert select(candidates).name == expected


def test_one_split_has_no_error_and_undefined_targets_are_left_out():
    assert select([candidate("a", (0.499,), (0.1,)), candidate("b", (0.5,), (0.5,))]).name == "b"
    assert select([candidate("nan", (math.nan, 1.0), (0.0, 0.0)), candidate("b", (0.1, 0.2), (0.5, 0.5))]).name == "b"
    with pytest.raises(ConfigError, match="nothing to choose from"):
        select([candidate("nan", (math.nan,), (0.1,))])


def test_the_choice_is_by_the_kept_validation_rows_and_the_record_says_among_what(folder: StudyFolder):
    for trial in (0, 1):
        record = folder.record("Chosen", trial)
        scores, eces = {}, {}
        for name in ("Control", "Sum", "Scaled", "Regression"):
            kept = [validation(folder, name, trial, split) for split in (0, 1)]
            scores[name] = [oracles.weighted_auroc_aupr(*rows)[1] for rows in kept]
            tops = [(p.max(1), p.argmax(1) == labels, labels != NONE) for p, labels, _ in kept]
            errors = [oracles.expected_calibration_error(p[known], correct[known]) for p, correct, known in tops]
            eces[name] = np.mean(errors)
        table = {entry["method"]: entry for entry in record.selection}
        for name in scores:
            assert table[name]["score"] == pytest.approx(np.mean(scores[name]), abs=1e-6)
            assert table[name]["ece"] == pytest.approx(eces[name], abs=1e-6)
        best_two = sorted(scores, key=lambda name: -np.mean(scores[name]))
        assert [name for name in table if " + " in name] == [average_of(best_two)]
        best = record.selection[0]
        assert best["score"] == max(entry["score"] for entry in record.selection)
        equals = [one["method"] for one in record.selection if best["score"] - one["score"] <= one["error"] + 1e-12]
        (chosen,) = [entry["method"] for entry in record.selection if entry["chosen"]]
        assert chosen in [*equals, "Control"]
        assert record.parameters["chosen"] == chosen
        assert record.chosen == {}


def average_of(ranked: list[str]) -> str:
    """The best two that have no fit in common: Control and Sum have."""
    second = next(name for name in ranked[1:] if {ranked[0], name} != {"Control", "Sum"})
    return f"{ranked[0]} + {second}"


def validation(folder: StudyFolder, name: str, trial: int, split: int):
    table, names = folder.trial(trial).to_pandas(), folder.record(name, trial).class_names
    part = table[f"threshold_part_{split}"]
    known = set(table["label"][part == "fit"])
    labels = np.array([names.index(label) if label in known else NONE for label in table["label"][part == "val"]])
    logits = folder.read_logits(name, trial, f"threshold/{split}").astype(np.float32)
    return expit(logits), labels, folder.read_scores(name, trial, f"threshold/{split}_none_scores")


def test_it_decides_as_what_was_chosen_does(folder: StudyFolder):
    for trial in (0, 1):
        names = folder.record("Chosen", trial).parameters["chosen"].split(" + ")
        members = [folder.predictions(name, trial) for name in names]
        own = folder.predictions("Chosen", trial)
        mean = torch.stack([member.probabilities for member in members]).mean(0)
        torch.testing.assert_close(own.probabilities, mean, atol=1e-3, rtol=0)
        if len(names) == 1 and members[0].none_scores is not None:
            assert torch.equal(own.none_scores, members[0].none_scores)


def test_averages_add_up_standardised_log_odds_of_none(tmp_path):
    methods = {
        "Control": {},
        "Regression": method("EstimatorMethod", estimator={"class_path": "sklearn.linear_model.LogisticRegression"}),
        "Near": method("Decided", base="Control", score=method("NeighborDistance", k=3)),
        "Chosen": method("Chosen", methods=["Near", "Regression"], average=2),
    }
    folder = run_study(digits_config(methods=methods, trials=1, epochs=2), StudyFolder(tmp_path))
    path = folder.run_path("Chosen", 0)
    table = {entry["method"]: entry for entry in json.loads((path / "run.json").read_text())["selection"]}
    (average,) = [name for name in table if " + " in name]

    def odds(name: str, scores, probabilities):
        return logit(scores.astype(float)) if name == "Near" else -logit(probabilities.max(1).astype(float))

    expected = []
    for split in (0, 1):
        parts = {name: validation(folder, name, 0, split) for name in ("Near", "Regression")}
        z = 0
        for name, (probabilities, _, scores) in parts.items():
            pool = [validation(folder, name, 0, other) for other in (0, 1)]
            everything = np.concatenate([odds(name, one[2], one[0]) for one in pool])
            z = z + (odds(name, scores, probabilities) - everything.mean()) / everything.std() / 2
        squashed = (1 + z / (1 + np.abs(z))) / 2
        mean, labels = (parts["Near"][0] + parts["Regression"][0]) / 2, parts["Near"][1]
        expected.append(oracles.weighted_auroc_aupr(mean, labels, squashed)[1])
    assert table[average]["score"] == pytest.approx(np.mean(expected), abs=2e-4)


@pytest.mark.parametrize(("rows", "taken"), [(3, "Late"), (4, "Early")])  # of which 2 and 3 train in a split, mostly
def test_where_hardly_any_rows_train_others_come_first(tmp_path, rows: int, taken: str):
    split = method("RowsPerClass", rows=rows, split=method("TrialSplit", **SPLIT))
    methods = {
        "Control": {},
        "Worst": method("EstimatorMethod", estimator={"class_path": "sklearn.dummy.DummyClassifier"}),
        **{
            name: method("Decided", base="Control", score=method("NeighborDistance", k=3)) for name in ("Early", "Late")
        },
        "Chosen": method("Chosen", methods=["Early", "Worst", "Late"], few_rows=["Late", "Worst"], average=1),
    }
    folder = run_study(digits_config(methods=methods, split=split, trials=1, held_out=1), StudyFolder(tmp_path))
    assert folder.record("Chosen", 0).parameters["chosen"] == taken  # both are equally good
    late, chosen = folder.predictions("Late", 0), folder.predictions("Chosen", 0)
    torch.testing.assert_close(chosen.none_scores, late.none_scores, atol=0, rtol=0)


def test_what_comes_first_with_few_rows_is_among_the_methods():
    with pytest.raises(ConfigError, match="few_rows: 'Late' is none of the methods"):
        Chosen(["Early"], few_rows=["Late"])


def test_no_test_row_has_a_part_in_the_choice(folder: StudyFolder, tmp_path):
    """With the test labels of another world the choice is the same: it is written before any test row is predicted."""
    note = json.loads((folder.run_path("Chosen", 0) / "threshold.json").read_text())
    files = [folder.run_path(name, 0) / "logits.npy" for name in ("Control", "Sum", "Scaled", "Regression")]
    written = (folder.run_path("Chosen", 0) / "threshold.json").stat().st_mtime_ns
    assert all(file.stat().st_mtime_ns > written for file in files)
    assert note["parameters"]["chosen"] == folder.record("Chosen", 0).parameters["chosen"]


def test_the_report_says_in_how_many_trials_which_was_chosen(folder: StudyFolder):
    tables = study_tables(folder)
    (table,) = [table for table in tables.tables() if table.key == "choices"]
    chosen = [folder.record("Chosen", trial).parameters["chosen"] for trial in (0, 1)]
    selections = [folder.record("Chosen", trial).selection for trial in (0, 1)]
    for chooser, candidate, score, ece, taken in table.rows:
        entries = [entry for entries in selections for entry in entries if entry["method"] == candidate]
        assert chooser == "Chosen"
        assert taken == f"{chosen.count(candidate)} of 2"
        assert float(score) == pytest.approx(np.mean([entry["score"] for entry in entries]), abs=1e-4)
        assert float(ece) == pytest.approx(np.mean([entry["ece"] for entry in entries]), abs=1e-4)
    assert {"Control", "Sum", "Scaled", "Regression", *chosen} <= {row[1] for row in table.rows}
    assert tables.to_json()["compared"] == {"Chosen": selections}

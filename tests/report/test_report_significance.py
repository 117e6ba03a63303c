"""Bootstrap intervals of differences to the control."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from kept import Array

from estitchup_pl.functional import (
    confidence_accuracy_correlation,
    expected_calibration_error,
    none_detection,
    none_score,
    weighted_auroc_aupr,
)
from estitchup_pl.report.runs import Run, StudyRuns
from estitchup_pl.report.significance import (
    METRICS,
    Interval,
    RowStatistics,
    bootstrap,
    metrics_of,
    paired_intervals,
    row_statistics,
    row_sums,
)
from estitchup_pl.study import StudyFolder


def test_metrics_of_rows_counted_once_are_those_of_the_run(study: StudyFolder, runs: StudyRuns) -> None:
    run, predictions = runs.runs["Control", 0], study.predictions("Control", 0)
    metrics = metrics_of(row_sums([row_statistics(run)], np.ones(len(run.ids))))
    top, known = (run.test.confidence, run.test.correct), predictions.labels >= 0
    expected = [
        *weighted_auroc_aupr(predictions.probabilities, predictions.labels),
        none_detection(none_score(predictions.probabilities.double()), predictions.labels).auroc,
        expected_calibration_error(*top),
        expected_calibration_error(*(part[known] for part in top)),
        confidence_accuracy_correlation(*top),
    ]
    np.testing.assert_allclose(metrics[0], expected, atol=1e-12)


def test_rows_counted_twice_are_rows_that_are_there_twice(runs: StudyRuns) -> None:
    run = runs.runs["E-Stitchup", 1]
    times = np.random.default_rng(0).integers(0, 4, len(run.ids)).astype(float)
    repeat = torch.from_numpy(times).long()
    fields = (run.test.confidence, run.test.correct, run.test.labels)
    *rows, labels = (field.repeat_interleave(repeat) for field in fields)
    metrics = dict(zip(METRICS, metrics_of(row_sums([row_statistics(run)], times))[0], strict=True))
    assert metrics["ece"] == pytest.approx(float(expected_calibration_error(*rows)), abs=1e-12)
    known = [field[labels >= 0] for field in rows]
    assert metrics["ece_id"] == pytest.approx(float(expected_calibration_error(*known)), abs=1e-12)
    assert metrics["correlation"] == pytest.approx(float(confidence_accuracy_correlation(*rows)), abs=1e-12)
    assert metrics["auroc"] == pytest.approx(float(run.scores.auroc.repeat_interleave(repeat).mean()), abs=1e-12)


def slow_metrics(runs: StudyRuns, method: str, trial: int, rows: Array) -> list[float]:
    """The metrics of rows, some of which are there several times; ranks are those among all rows."""
    run = runs.runs[method, trial]
    drawn = torch.from_numpy(rows)
    top, known = (run.test.confidence[drawn].double(), run.test.correct[drawn]), run.test.labels[drawn] >= 0
    ranking = [float(scores[drawn].mean()) for scores in (run.scores.auroc, run.scores.precision)]
    errors = [expected_calibration_error(*top), expected_calibration_error(*(part[known] for part in top))]
    correlation = confidence_accuracy_correlation(*top)
    return [*ranking, slow_none_auroc(run, rows), *map(float, (*errors, correlation))]


def slow_none_auroc(run: Run, drawn: Array) -> float:
    """What "none" rows outrank of all known rows, moved by what outranks the known rows drawn; all pairs by hand."""
    confidence, is_none = run.test.confidence.numpy(), run.test.labels.numpy() == -1
    wins = confidence[is_none, None] < confidence[None, ~is_none]
    wins = wins + (confidence[is_none, None] == confidence[None, ~is_none]) / 2
    of_row = np.empty(len(confidence))
    of_row[is_none], of_row[~is_none] = wins.mean(axis=1), wins.mean(axis=0)
    none, known = drawn[is_none[drawn]], drawn[~is_none[drawn]]
    return float(of_row[none].mean() + of_row[known].mean() - wins.mean())


def drawn_rows(run: Run, source: np.random.Generator) -> Array:
    """Known rows one by one, "none" rows by the classes that they belong to in truth."""
    is_none, names = run.test.labels.numpy() == -1, np.array(run.label_names.to_pylist())
    known, classes = np.flatnonzero(~is_none), sorted(set(names[is_none]))
    rows = known[source.integers(len(known), size=len(known), dtype=np.int32)]
    if len(classes) == 1:
        none = np.flatnonzero(is_none)
        return np.concatenate([rows, none[source.integers(len(none), size=len(none), dtype=np.int32)]])
    unknown = [classes[place] for place in source.integers(len(classes), size=len(classes), dtype=np.int32)]
    return np.concatenate([rows, *(np.flatnonzero(is_none & (names == name)) for name in unknown)])


def with_unknown_classes(runs: StudyRuns) -> StudyRuns:
    """The same, but "none" rows belong to three classes in turn."""
    changed = {}
    for key, run in runs.runs.items():
        is_none = run.test.labels.numpy() == -1
        names = np.where(is_none, np.char.add("unknown ", (np.arange(len(is_none)) % 3).astype(str)), "known")
        changed[key] = replace(run, label_names=pa.array(names.tolist()))
    return replace(runs, runs=changed)


@pytest.mark.parametrize("unknown", ["one class", "three classes"])
def test_intervals_are_those_of_resamples_drawn_one_by_one(runs: StudyRuns, unknown: str) -> None:
    """With the documented keys: trials from ``(seed, 0)``, the rows of each trial in turn from ``(seed, 1, trial)``."""
    runs = runs if unknown == "one class" else with_unknown_classes(runs)
    seed, resamples = 3, 12
    trials = np.random.default_rng((seed, 0)).integers(3, size=(resamples, 3))
    sources = [np.random.default_rng((seed, 1, trial)) for trial in range(3)]
    differences = {method: [] for method in runs.methods if method != "Control"}  # type: dict[str, list[Array]]
    rows_of = {
        trial: [drawn_rows(runs.runs["Control", trial], sources[trial]) for _ in range((trials == trial).sum())]
        for trial in range(3)
    }
    drawn = {trial: iter(rows) for trial, rows in rows_of.items()}
    for resample in trials:
        rows = [(trial, next(drawn[trial])) for trial in np.sort(resample).tolist()]
        for method, values in differences.items():
            pairs = [(slow_metrics(runs, method, *of), slow_metrics(runs, "Control", *of)) for of in rows]
            values.append(np.mean([np.subtract(*pair) for pair in pairs], axis=0))
    everything = [np.arange(len(runs.runs["Control", trial].ids)) for trial in range(3)]
    for method, intervals in paired_intervals(runs, resamples, level=0.8, seed=seed).items():
        whole = [
            (slow_metrics(runs, method, t, r), slow_metrics(runs, "Control", t, r)) for t, r in enumerate(everything)
        ]
        estimate = np.mean([np.subtract(*pair) for pair in whole], axis=0)
        low, high = np.quantile(differences[method], [0.1, 0.9], axis=0)
        expected = np.stack([estimate, 2 * estimate - high, 2 * estimate - low], axis=1)
        assert tuple(intervals) == METRICS
        np.testing.assert_allclose(list(intervals.values()), expected, atol=1e-9)


def made_rows(source: np.random.Generator, rows: int, gap: float) -> list[RowStatistics]:
    """Control and a method that is better by ``gap`` in the ranking of each row, apart from noise."""
    common = source.normal(0.5, 0.1, (rows, 2))
    noise = source.normal(0, 0.05, (rows, 2))
    cell, zeros, known = np.zeros(rows, np.int64), np.zeros(rows), np.full(rows, -1)
    return [RowStatistics(values, zeros, cell, zeros, known) for values in (common, common + gap + noise)]


def test_intervals_cover_the_true_difference_about_as_often_as_they_say() -> None:
    covered = 0
    for study in range(40):
        source = np.random.default_rng(study)
        effects = 0.02 + source.normal(0, 0.002, 5)
        trials = [made_rows(source, 100, gap) for gap in effects]
        estimate, samples = bootstrap(trials, resamples=100, seed=study)
        difference = (estimate[1] - estimate[0])[0]
        low, high = 2 * difference - np.quantile((samples[:, 1] - samples[:, 0])[:, 0], [0.975, 0.025])
        covered += low < 0.02 < high
    assert 33 <= covered <= 40


def test_differences_pair_the_rows() -> None:
    """Rows that are hard for both methods widen neither: unpaired, the interval would be several times as wide."""
    source = np.random.default_rng(0)
    _, samples = bootstrap([made_rows(source, 400, 0.02) for _ in range(3)], resamples=300, seed=0)
    paired = (samples[:, 1] - samples[:, 0])[:, 0].std()
    assert paired < 0.7 * samples[:, 1, 0].std()


def test_a_method_that_equals_the_control_is_not_told_from_it(runs: StudyRuns) -> None:
    twins = {("Control", trial): runs.runs["Control", trial] for trial in runs.trials}
    twins |= {("Twin", trial): runs.runs["Control", trial] for trial in runs.trials}
    study = StudyRuns(runs.header, ("Control", "Twin"), runs.trials, {}, twins, {})
    for interval in paired_intervals(study, resamples=20)["Twin"].values():
        assert interval == (0, 0, 0)
        assert not interval.excludes_zero


def test_equal_seeds_give_equal_intervals(runs: StudyRuns) -> None:
    first, again, other = (paired_intervals(runs, resamples=20, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_intervals_about_none_are_as_wide_as_its_classes_differ() -> None:
    """Twenty rows of each of six unknown classes, of which the method wins some and loses others: not 120 witnesses."""
    source = np.random.default_rng(0)
    unknown = np.concatenate([np.full(200, -1), np.arange(6).repeat(20)])
    effect = np.where(unknown < 0, 0.0, np.append(source.normal(0, 0.1, 6), 0)[unknown])
    zeros, cell = np.zeros(320), np.zeros(320, np.int64)

    def spread(groups: Array) -> float:
        rows = [RowStatistics(np.zeros((320, 2)), values, cell, zeros, groups) for values in (zeros, effect)]
        _, samples = bootstrap([rows], resamples=300, seed=0)
        return float((samples[:, 1] - samples[:, 0])[:, METRICS.index("none_auroc")].std())

    alone = np.where(unknown < 0, -1, np.arange(320) - 200)
    assert spread(unknown) == pytest.approx(effect[200::20].std() / np.sqrt(6), rel=0.2)
    assert spread(unknown) > 3 * spread(alone)


@pytest.mark.parametrize(("low", "high", "real"), [(4e-5, 0.1, False), (6e-5, 0.1, True), (-0.1, -1e-17, False)])
def test_an_end_that_is_printed_as_zero_excludes_nothing(low: float, high: float, real: bool) -> None:
    assert Interval(0.05, low, high).excludes_zero is real

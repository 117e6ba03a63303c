"""Bootstrap intervals of differences to the control."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kept import Array

from estitchup_pl.functional import confidence_accuracy_correlation, expected_calibration_error, weighted_auroc_aupr
from estitchup_pl.report.runs import StudyRuns
from estitchup_pl.report.significance import (
    METRICS,
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
    top = run.test.confidence, run.test.correct
    expected = [
        *weighted_auroc_aupr(predictions.probabilities, predictions.labels),
        expected_calibration_error(*top),
        confidence_accuracy_correlation(*top),
    ]
    np.testing.assert_allclose(metrics[0], expected, atol=1e-12)


def test_rows_counted_twice_are_rows_that_are_there_twice(runs: StudyRuns) -> None:
    run = runs.runs["E-Stitchup", 1]
    times = np.random.default_rng(0).integers(0, 4, len(run.ids)).astype(float)
    repeat = torch.from_numpy(times).long()
    rows = [field.repeat_interleave(repeat) for field in (run.test.confidence, run.test.correct)]
    metrics = metrics_of(row_sums([row_statistics(run)], times))[0]
    assert metrics[2] == pytest.approx(float(expected_calibration_error(*rows)), abs=1e-12)
    assert metrics[3] == pytest.approx(float(confidence_accuracy_correlation(*rows)), abs=1e-12)
    assert metrics[0] == pytest.approx(float(run.scores.auroc.repeat_interleave(repeat).mean()), abs=1e-12)


def slow_metrics(runs: StudyRuns, method: str, trial: int, rows: Array) -> list[float]:
    """The metrics of rows, some of which are there several times; ranks are those among all rows."""
    run = runs.runs[method, trial]
    drawn = torch.from_numpy(rows)
    top = run.test.confidence[drawn].double(), run.test.correct[drawn]
    ranking = [float(scores[drawn].mean()) for scores in (run.scores.auroc, run.scores.precision)]
    return [*ranking, float(expected_calibration_error(*top)), float(confidence_accuracy_correlation(*top))]


def test_intervals_are_those_of_resamples_drawn_one_by_one(runs: StudyRuns) -> None:
    """With the documented keys: trials from ``(seed, 0)``, the rows of each trial in turn from ``(seed, 1, trial)``."""
    seed, resamples = 3, 12
    trials = np.random.default_rng((seed, 0)).integers(3, size=(resamples, 3))
    sources = [np.random.default_rng((seed, 1, trial)) for trial in range(3)]
    differences = {method: [] for method in runs.methods if method != "Control"}  # type: dict[str, list[Array]]
    rows_of = {
        trial: [
            sources[trial].integers(
                len(runs.runs["Control", trial].ids), size=len(runs.runs["Control", trial].ids), dtype=np.int32
            )
            for _ in range((trials == trial).sum())
        ]
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
    cell, confidence = np.zeros(rows, np.int64), np.zeros(rows)
    return [RowStatistics(values, cell, confidence) for values in (common, common + gap + noise)]


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

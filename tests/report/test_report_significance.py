"""Bootstrap intervals of differences to the control."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from estitchup_pl.functional import confidence_accuracy_correlation, expected_calibration_error, weighted_auroc_aupr
from estitchup_pl.report.runs import StudyRuns
from estitchup_pl.report.significance import (
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

"""Which differences to the control are real: a bootstrap over trials and over the rows within them.

Trials are drawn with replacement and, within each trial drawn, rows; both methods are scored on the same rows, so
what makes a trial or a row easy for all does not blur their difference. Three things to know:

- The ranking is held fixed: a row keeps the rank that it has among all test rows of its trial (its contribution to
  AUROC and AUPR, :func:`~estitchup_pl.functional.row_scores`); only which rows are averaged varies.
- ECE and correlation are computed again from the resampled bins.
- The interval is the basic one, twice the estimate minus the quantiles of the resamples, reversed. Calibration errors
  of resamples are too large, and the plain quantiles would blame that on the better calibrated method.

With few trials an interval says little of trials that were not drawn; with one it speaks of rows alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from estitchup_pl.functional import ReliabilityBins, binned_calibration_error, binned_correlation
from estitchup_pl.functional.calibration import equal_width_index
from estitchup_pl.report.averages import Floats
from estitchup_pl.report.runs import Run, StudyRuns

METRICS: Final = ("auroc", "aupr", "ece", "correlation")
ECE_BINS: Final = 15
CORRELATION_BINS: Final = 10
_BINS: Final = 30  # a multiple of both


class Interval(NamedTuple):
    """A difference to the control with its bootstrap interval.

    Attributes:
        difference: Mean over trials of the difference to the control.
        low: Lower end.
        high: Upper end.
    """

    difference: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the difference is real, as far as the interval can tell."""
        return self.low > 0 or self.high < 0


def paired_intervals(
    study: StudyRuns, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, dict[str, Interval]]:
    """Compare every method with the control in each of :data:`METRICS`.

    Args:
        study: The runs.
        resamples: Number of bootstrap resamples.
        level: Share of the resamples that an interval holds.
        seed: Key of the random numbers; the same study and seed give the same intervals.

    Returns:
        Interval of each metric for each method but the control; NaN where a resample has no value, as a
        correlation over a single bin has none.
    """
    others = [method for method in study.methods if method != study.control]
    trials = [
        [row_statistics(study.runs[method, trial]) for method in (study.control, *others)] for trial in study.trials
    ]
    estimate, samples = bootstrap(trials, resamples, seed)
    ends = np.quantile(samples[:, 1:] - samples[:, :1], [(1 + level) / 2, (1 - level) / 2], axis=0)
    difference = estimate[1:] - estimate[:1]
    low, high = 2 * difference - ends
    return {
        method: {
            metric: Interval(*map(float, (difference[row, column], low[row, column], high[row, column])))
            for column, metric in enumerate(METRICS)
        }
        for row, method in enumerate(others)
    }


class RowStatistics(NamedTuple):
    """What each test row of a run adds to the metrics, each field ``(rows,)``.

    Attributes:
        ranking: Contributions to AUROC and AUPR, float64 ``(rows, 2)``.
        cell: Twice the bin of its confidence, plus one where the decision is right, int64.
        confidence: Confidence, float64.
    """

    ranking: Floats
    cell: npt.NDArray[np.int64]
    confidence: Floats


def row_statistics(run: Run) -> RowStatistics:
    """Take a run apart into rows."""
    confidence = run.test.confidence.double()  # as the results are computed
    cell = 2 * equal_width_index(confidence, _BINS) + run.test.correct.long()
    ranking = np.stack([run.scores.auroc.numpy(), run.scores.precision.numpy()], axis=1)
    return RowStatistics(ranking, cell.numpy(), confidence.numpy())


def bootstrap(trials: Sequence[Sequence[RowStatistics]], resamples: int, seed: int) -> tuple[Floats, Floats]:
    """Average the metrics over trials, as they are and resampled.

    Args:
        trials: For each trial the rows of each method, in the same order of rows.
        resamples: Number of resamples.
        seed: Key of the random numbers.

    Returns:
        The mean over trials, ``(methods, metrics)``, and that of each resample, ``(resamples, methods, metrics)``.
    """
    estimate = np.mean([metrics_of(row_sums(rows, np.ones(len(rows[0].cell)))) for rows in trials], axis=0)
    drawn = np.random.default_rng((seed, 0)).integers(len(trials), size=(resamples, len(trials)))
    samples = np.zeros((resamples, *estimate.shape))
    for trial, rows in enumerate(trials):
        resample = np.nonzero(drawn == trial)[0]
        sums = [row_sums(rows, times) for times in _resampled_rows(len(rows[0].cell), len(resample), (seed, 1, trial))]
        if sums:
            np.add.at(samples, resample, metrics_of(np.stack(sums)))
    return estimate, samples / len(trials)


def _resampled_rows(rows: int, number: int, key: tuple[int, ...]) -> Iterator[Floats]:
    source = np.random.default_rng(key)
    for _ in range(number):
        drawn = source.integers(rows, size=rows, dtype=np.int32)
        yield np.bincount(drawn, minlength=rows).astype(np.float64)


def row_sums(methods: Sequence[RowStatistics], times: Floats) -> Floats:
    """Sum over rows, each counted as often as ``times`` says, all that :func:`metrics_of` needs.

    Returns:
        For each method the number of rows, the two contributions to the ranking, and for each cell of
        :attr:`RowStatistics.cell` the rows and their confidence; ``(methods, sums)``.
    """
    return np.stack(
        [
            np.concatenate(
                [
                    [times.sum()],
                    times @ rows.ranking,
                    np.bincount(rows.cell, times, 2 * _BINS),
                    np.bincount(rows.cell, times * rows.confidence, 2 * _BINS),
                ]
            )
            for rows in methods
        ]
    )


def metrics_of(sums: Floats) -> Floats:
    """Compute :data:`METRICS`, ``(..., metrics)``, from the sums of :func:`row_sums`, ``(..., sums)``."""
    rows, ranking, cells = np.split(sums, [1, 3], axis=-1)
    count, confidence = np.moveaxis(cells.reshape(*sums.shape[:-1], 2, _BINS, 2), -3, 0)
    bins = np.stack([count.sum(axis=-1), confidence.sum(axis=-1), count[..., 1]])
    calibration = [binned_calibration_error(_merge(bins, ECE_BINS)), binned_correlation(_merge(bins, CORRELATION_BINS))]
    return np.concatenate([ranking / rows, torch.stack(calibration, dim=-1).numpy()], axis=-1)


def _merge(sums: Floats, bins: int) -> ReliabilityBins:
    counts, confidence, right = torch.from_numpy(sums.reshape(*sums.shape[:-1], bins, -1).sum(axis=-1))
    return ReliabilityBins(counts, confidence / counts, right / counts)

"""Which differences to the control are real: a bootstrap over trials and over the rows within them.

Trials are drawn with replacement and, within each trial drawn, rows of known classes one by one and "none" rows by
whole classes (where there is only one, by its rows): rows of one unknown class are alike, and which classes are
unknown is the greater part of what is left to chance. Both methods are scored on the same rows, so what makes a trial
or a row easy for all does not blur their difference. Three things to know:

- The ranking is held fixed: a row keeps the rank that it has among all test rows of its trial (its contribution to
  AUROC and AUPR, :func:`~estitchup_pl.functional.row_scores`); only which rows are averaged varies. The AUROC of
  "none" is the mean of what its "none" rows outrank, moved by what the known rows drawn lose more or less than all.
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

from estitchup_pl.batch import NONE
from estitchup_pl.functional import ReliabilityBins, binned_calibration_error, binned_correlation
from estitchup_pl.functional.calibration import equal_width_index
from estitchup_pl.report.averages import Floats
from estitchup_pl.report.runs import Run, StudyRuns

METRICS: Final = ("auroc", "aupr", "none_auroc", "ece", "ece_id", "correlation")
ECE_BINS: Final = 15
CORRELATION_BINS: Final = 10
_BINS: Final = 30  # a multiple of both
DECIMALS: Final = 4
"""Of numbers as they are printed: an end of an interval that is printed as zero does not exclude zero."""


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
        """Whether the difference is real, as far as the interval can tell; not where an end is a rounding of zero."""
        return round(self.low, DECIMALS) > 0 or round(self.high, DECIMALS) < 0


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
        outranked: Of a "none" row the share of the known rows that it outranks as "none"; of a known row how much less
            than the average "none" row outranks it; float64.
        cell: Twice the bin of its confidence, plus one where the decision is right, int64.
        confidence: Confidence, float64.
        unknown: Number of the unknown class that a "none" row belongs to, ``NONE`` of a known row, int64.
    """

    ranking: Floats
    outranked: Floats
    cell: npt.NDArray[np.int64]
    confidence: Floats
    unknown: npt.NDArray[np.int64]


def row_statistics(run: Run) -> RowStatistics:
    """Take a run apart into rows."""
    confidence = run.test.confidence.double()  # as the results are computed
    cell = 2 * equal_width_index(confidence, _BINS) + run.test.correct.long()
    ranking = np.stack([run.scores.auroc.numpy(), run.scores.precision.numpy()], axis=1)
    return RowStatistics(ranking, _outranked(run), cell.numpy(), confidence.numpy(), _unknown_classes(run))


def _unknown_classes(run: Run) -> npt.NDArray[np.int64]:
    names = np.asarray(run.label_names.to_pylist(), dtype=object)
    is_none = run.test.labels.numpy() == NONE
    unknown = np.full(len(names), NONE, dtype=np.int64)
    unknown[is_none] = np.unique(names[is_none].astype(str), return_inverse=True)[1]
    return unknown


def _outranked(run: Run) -> Floats:
    """What each row adds to the AUROC of "none", see :class:`RowStatistics`; NaN where one kind is missing."""
    acceptance, is_none = run.test.acceptance.double().numpy(), run.test.labels.numpy() == NONE
    known, none = np.sort(acceptance[~is_none]), np.sort(acceptance[is_none])
    if not len(known) or not len(none):
        return np.full(len(acceptance), np.nan)
    above, below = 1 - _share_below(known, acceptance), _share_below(none, acceptance)
    return np.where(is_none, above, below - below[~is_none].mean())


def _share_below(ascending: Floats, values: Floats) -> Floats:
    """Share of the ascending values below each value, equal ones half."""
    twice = np.searchsorted(ascending, values, "left") + np.searchsorted(ascending, values, "right")
    return np.asarray(twice / (2 * len(ascending)))


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
        sums = [row_sums(rows, times) for times in _resampled_rows(rows[0].unknown, len(resample), (seed, 1, trial))]
        if sums:
            np.add.at(samples, resample, metrics_of(np.stack(sums)))
    return estimate, samples / len(trials)


def _resampled_rows(unknown: npt.NDArray[np.int64], number: int, key: tuple[int, ...]) -> Iterator[Floats]:
    """How often each row is drawn: a known one by itself, a "none" row with all of its class, if there are several."""
    source, classes = np.random.default_rng(key), int(unknown.max(initial=NONE)) + 1
    known, none = np.flatnonzero(unknown == NONE), np.flatnonzero(unknown != NONE)
    for _ in range(number):
        times = np.zeros(len(unknown))
        times[known] = _drawn(source, len(known))
        times[none] = _drawn(source, classes)[unknown[none]] if classes > 1 else _drawn(source, len(none))
        yield times


def _drawn(source: np.random.Generator, number: int) -> npt.NDArray[np.int64]:
    """How often each of so many is drawn, as many times as there are."""
    return np.bincount(source.integers(number, size=number, dtype=np.int32) if number else [], minlength=number)


def row_sums(methods: Sequence[RowStatistics], times: Floats) -> Floats:
    """Sum over rows, each counted as often as ``times`` says, all that :func:`metrics_of` needs.

    Returns:
        For each method the number of rows, the two contributions to the ranking, those of both kinds to the AUROC of
        "none" and their rows, and for each cell of :attr:`RowStatistics.cell`, of known and of "none" rows, the rows
        and their confidence; ``(methods, sums)``.
    """
    is_none = methods[0].unknown != NONE
    none, known = times * is_none, times * ~is_none
    return np.stack(
        [
            np.concatenate(
                [
                    [times.sum()],
                    times @ rows.ranking,
                    [none @ rows.outranked, none.sum(), known @ rows.outranked, known.sum()],
                    np.bincount(rows.cell + 2 * _BINS * is_none, times, 4 * _BINS),
                    np.bincount(rows.cell + 2 * _BINS * is_none, times * rows.confidence, 4 * _BINS),
                ]
            )
            for rows in methods
        ]
    )


def metrics_of(sums: Floats) -> Floats:
    """Compute :data:`METRICS`, ``(..., metrics)``, from the sums of :func:`row_sums`, ``(..., sums)``."""
    rows, ranking, detection, cells = np.split(sums, [1, 3, 7], axis=-1)
    none, none_rows, known, known_rows = np.moveaxis(detection, -1, 0)
    with np.errstate(invalid="ignore"):
        none_auroc = none / none_rows + known / known_rows
    count, confidence = np.moveaxis(cells.reshape(*sums.shape[:-1], 2, 2, _BINS, 2), -4, 0)
    bins = np.stack([count.sum(axis=-1), confidence.sum(axis=-1), count[..., 1]])
    of_known, of_all = bins[..., 0, :], bins.sum(axis=-2)
    calibration = [
        binned_calibration_error(_merge(of_all, ECE_BINS)),
        binned_calibration_error(_merge(of_known, ECE_BINS)),
        binned_correlation(_merge(of_all, CORRELATION_BINS)),
    ]
    parts = [ranking / rows, none_auroc[..., None], torch.stack(calibration, dim=-1).numpy()]
    return np.concatenate(parts, axis=-1)


def _merge(sums: Floats, bins: int) -> ReliabilityBins:
    counts, confidence, right = torch.from_numpy(sums.reshape(*sums.shape[:-1], bins, -1).sum(axis=-1))
    return ReliabilityBins(counts, confidence / counts, right / counts)

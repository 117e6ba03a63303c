"""What a simulation says: accuracy, classes and labels saved by each strategy, with intervals over the trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from scipy import stats

from estitchup_pl.errors import ConfigError

BASELINE = "random"


class Mean(NamedTuple):
    """A mean over trials.

    Attributes:
        value: The mean.
        half: Half the width of its interval, by Student's t; NaN of a single trial.
    """

    value: float
    half: float


class Payoff(NamedTuple):
    """What a strategy has brought.

    Attributes:
        accuracy: Accuracy after the last round.
        gain: What it is above that of the baseline, trial by trial.
        classes: Classes that it knows then.
        more_classes: How many more than the baseline.
        labels: Labels that it needs for the baseline's last accuracy; NaN where some trial does not reach it.
        saved: Share of the labels that it saves, in ``(-inf, 1]``: one minus its labels by those that the baseline
            needs for the same accuracy.
    """

    accuracy: Mean
    gain: Mean
    classes: Mean
    more_classes: Mean
    labels: Mean
    saved: Mean


def payoffs(table: pa.Table, baseline: str = BASELINE, level: float = 0.95) -> dict[str, Payoff]:
    """Sum up a simulation by strategy; a difference is taken within each trial.

    Args:
        table: What :meth:`~estitchup_pl.labeling.Simulation.run` gave.
        baseline: Name of the strategy that the others are compared with.
        level: Level of the intervals, in ``(0, 1)``.

    Raises:
        ConfigError: If there is no such strategy.
    """
    courses = _courses(table)
    trials = sorted({trial for _, trial in courses})
    if (baseline, trials[0]) not in courses:
        raise ConfigError(f"baseline: the strategy {baseline!r} was not played")
    found = {}
    for name in dict.fromkeys(table["strategy"].to_pylist()):
        own, other = ([courses[which, trial] for trial in trials] for which in (name, baseline))
        last, least = (np.array([course[-1] for course in one]) for one in (own, other))
        labels, needed = (
            np.array([_reached(course, goal[-1][1]) for course, goal in zip(one, other, strict=True)])
            for one in (own, other)
        )
        more, saved = last - least, 1 - labels / needed
        values = (last[:, 1], more[:, 1], last[:, 2], more[:, 2], labels, saved)
        found[name] = Payoff(*(mean_of(column, level) for column in values))
    return found


def course_of(table: pa.Table, column: str = "accuracy", level: float = 0.95) -> dict[str, dict[int, Mean]]:
    """Course of each strategy by the number of labels, mean over trials.

    Args:
        table: What :meth:`~estitchup_pl.labeling.Simulation.run` gave.
        column: Column of which the mean is taken, ``accuracy`` or ``classes``.
        level: Level of the intervals, in ``(0, 1)``.
    """
    found: dict[str, dict[int, list[float]]] = {}
    for row in table.to_pylist():
        found.setdefault(row["strategy"], {}).setdefault(row["labels"], []).append(row[column])
    return {
        name: {labels: mean_of(values, level) for labels, values in sorted(course.items())}
        for name, course in found.items()
    }


def labels_needed(table: pa.Table, baseline: str = BASELINE) -> dict[str, float]:
    """Labels that each strategy needs, mean over trials, to reach what the baseline has after its last round.

    Between two rounds the accuracy is taken as a straight line.

    Args:
        table: What :meth:`~estitchup_pl.labeling.Simulation.run` gave.
        baseline: Name of the strategy to reach.

    Returns:
        Labels by the name of the strategy; NaN where some trial never reaches it.
    """
    return {name: payoff.labels.value for name, payoff in payoffs(table, baseline).items()}


def mean_of(values: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]], level: float = 0.95) -> Mean:
    """Mean of some trials, with its interval by Student's t.

    Args:
        values: One value a trial.
        level: Level of the interval, in ``(0, 1)``.

    Example:
        >>> mean_of([1.0, 2.0, 3.0]).value, round(mean_of([1.0, 2.0, 3.0]).half, 3)
        (2.0, 2.484)
    """
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) < 2:
        return Mean(float(numbers.mean()), math.nan)
    error = float(numbers.std(ddof=1)) / math.sqrt(len(numbers))
    return Mean(float(numbers.mean()), float(stats.t.ppf((1 + level) / 2, len(numbers) - 1)) * error)


def _courses(table: pa.Table) -> Mapping[tuple[str, int], list[tuple[int, float, int]]]:
    """Labels, accuracy and classes of each round, by strategy and trial."""
    courses: dict[tuple[str, int], list[tuple[int, float, int]]] = {}
    for row in table.to_pylist():
        course = courses.setdefault((row["strategy"], row["trial"]), [])
        course.append((row["labels"], row["accuracy"], row["classes"]))
    return {key: sorted(course) for key, course in courses.items()}


def _reached(course: Sequence[tuple[int, float, int]], goal: float) -> float:
    for (labels, accuracy, _), (more, higher, _) in pairwise([course[0], *course]):
        if higher >= goal:
            share = (goal - accuracy) / (higher - accuracy) if higher > accuracy else 1.0
            return labels + max(share, 0.0) * (more - labels)
    return math.nan

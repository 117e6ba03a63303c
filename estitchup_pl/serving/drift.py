"""Whether two batches of decisions differ, and by how much: shares, distributions and classes, in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from estitchup_pl.errors import DataError

Floats = npt.NDArray[np.floating[Any]]

_FEWEST_EXPECTED: Final = 5.0
"""Items of a class that a χ² needs; rarer classes are counted together."""

_MOST_STEPS: Final = 1000
_CONVERGED: Final = 1e-5
"""Change of a share from one step to the next at which expectation and maximisation end."""


class Difference(NamedTuple):
    """How a figure differs between two batches.

    Attributes:
        expected: The figure of the reference; of classes what chance alone moves between batches of these sizes.
        found: The figure of the batch.
        low: Lower end of its interval.
        high: Upper end.
        distance: How far apart the batches are, in ``[0, 1]``: of a share its change, of a distribution the greatest
            distance of the cumulative shares (Kolmogorov and Smirnov), of classes the share that has moved.
        p_value: Probability of so great a distance where nothing has changed.
    """

    expected: float
    found: float
    low: float
    high: float
    distance: float
    p_value: float


def compare_shares(found: npt.NDArray[np.bool_], expected: npt.NDArray[np.bool_], level: float = 0.95) -> Difference:
    """Compare how often something is so, by Fisher's exact test; the interval is that of Wilson.

    Args:
        found: Whether it is so in each row of the batch, ``(rows,)``.
        expected: The same of the reference.
        level: Of the interval, in ``(0, 1)``.

    Example:
        >>> compare_shares(np.array([True] * 40 + [False] * 60), np.array([True] * 10 + [False] * 90)).p_value < 1e-5
        True
    """
    _refuse_empty(found, expected)
    table = [[int(rows.sum()), int((~rows).sum())] for rows in (found, expected)]
    interval = stats.binomtest(table[0][0], len(found)).proportion_ci(level, "wilson")
    first, second = float(found.mean()), float(expected.mean())
    p_value = float(stats.fisher_exact(table).pvalue)
    return Difference(second, first, float(interval.low), float(interval.high), abs(first - second), p_value)


def compare_distributions(
    found: Floats, expected: Floats, level: float = 0.95, resamples: int = 300, seed: int = 0
) -> Difference:
    """Compare distributions by the test of Kolmogorov and Smirnov; figures are means, intervals bootstrapped.

    Args:
        found: Values of the batch, ``(rows,)``.
        expected: Values of the reference.
        level: Of the interval, in ``(0, 1)``.
        resamples: Resamples of the bootstrap.
        seed: Key of the random numbers.

    Example:
        >>> rows = np.linspace(0, 1, 200)
        >>> compare_distributions(rows, rows).distance, compare_distributions(rows, rows**2).p_value < 0.01
        (0.0, True)
    """
    _refuse_empty(found, expected)
    test = stats.ks_2samp(found, expected, method="asymp")
    source = np.random.default_rng(seed)
    means = [float(found[source.integers(len(found), size=len(found))].mean()) for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    figures = float(expected.mean()), float(found.mean()), float(low), float(high)
    return Difference(*figures, float(test.statistic), float(test.pvalue))


def compare_classes(
    found: Sequence[str], expected: Sequence[str], level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Difference:
    """Compare shares of classes by a χ² test; the figure is the share of items that another class would have to take.

    Resampling moves shares further apart, so the interval is bootstrapped less this bias.

    Args:
        found: Class of each row of the batch.
        expected: The same of the reference.
        level: Of the interval, in ``(0, 1)``.
        resamples: Resamples of the bootstrap.
        seed: Key of the random numbers.

    Example:
        >>> compare_classes(["hat"] * 50, ["hat"] * 25 + ["shoe"] * 25).distance
        0.5
    """
    _refuse_empty(found, expected)
    names = sorted({*found, *expected})
    counts = np.array([[column.count(name) for name in names] for column in (list(found), list(expected))])
    shares, together = counts / counts.sum(axis=1, keepdims=True), counts.sum(axis=0) / counts.sum()
    source = np.random.default_rng(seed)
    drawn = source.multinomial(len(found), shares[0], resamples) / len(found)
    chance = [source.multinomial(len(rows), together, resamples) / len(rows) for rows in (found, expected)]
    distance, moved = float(_moved_share(*shares)), _moved_share(drawn, shares[1])
    low, high = (np.quantile(moved, [(1 - level) / 2, (1 + level) / 2]) - moved.mean() + distance).clip(0, 1)
    by_chance = float(_moved_share(*chance).mean())
    return Difference(by_chance, distance, float(low), float(high), distance, _chi_squared(counts))


def _moved_share(first: Floats, second: Floats) -> Floats:
    """Total variation of shares ``(*, classes)``, in ``[0, 1]``."""
    share: Floats = np.abs(first - second).sum(axis=-1) / 2
    return share


def _chi_squared(counts: npt.NDArray[np.int64]) -> float:
    smaller = min(counts.sum(axis=1)) / counts.sum()
    rare = counts.sum(axis=0) * smaller < _FEWEST_EXPECTED
    pooled = np.column_stack([counts[:, ~rare], counts[:, rare].sum(axis=1)]) if rare.any() else counts
    pooled = pooled[:, pooled.sum(axis=0) > 0]
    return float(stats.chi2_contingency(pooled, correction=False).pvalue) if pooled.shape[1] > 1 else 1.0


def unknown_share(
    scores: Floats,
    known: Floats,
    none: Floats,
    bins: int = 10,
    level: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Estimate the share of unknown items without labels, by their scores of "none".

    The scores are taken for a mixture of those of known and of "none" rows with labels; its share is found by
    expectation and maximisation (Saerens et al., 2002), on shares of bins. The interval is bootstrapped over all three
    samples. It holds as far as today's unknown items look like those "none" rows.

    Args:
        scores: Scores of the batch, ``(rows,)``.
        known: Scores of rows of known classes.
        none: Scores of "none" rows.
        bins: Bins of equally many of the labelled rows.
        level: Of the interval, in ``(0, 1)``.
        resamples: Resamples of the bootstrap.
        seed: Key of the random numbers.

    Returns:
        The share, and both ends of its interval.

    Example:
        >>> source = np.random.default_rng(0)
        >>> known, none = source.beta(2, 8, 500), source.beta(8, 2, 300)
        >>> scores = np.concatenate([source.beta(2, 8, 300), source.beta(8, 2, 100)])
        >>> share, low, high = unknown_share(scores, known, none)
        >>> abs(share - 0.25) < 0.05, low < 0.25 < high
        (True, True)
    """
    _refuse_empty(scores, known, none)
    labelled = np.concatenate([known, none])
    inner = np.unique(np.quantile(labelled, np.linspace(0, 1, bins + 1)[1:-1]))
    samples = [np.bincount(np.searchsorted(inner, rows), minlength=len(inner) + 1) for rows in (scores, known, none)]
    source = np.random.default_rng(seed)
    drawn = [source.multinomial(counts.sum(), counts / counts.sum(), resamples) for counts in samples]
    (share,) = _mixed(*(counts[None] for counts in samples))
    low, high = np.quantile(_mixed(*drawn), [(1 - level) / 2, (1 + level) / 2])
    return float(share), float(low), float(high)


def _mixed(scores: npt.NDArray[np.int64], known: npt.NDArray[np.int64], none: npt.NDArray[np.int64]) -> Floats:
    """Share of the second part of a mixture, for counts of bins ``(samples, bins)``: ``(samples,)``."""
    parts = [(counts + 0.5) / (counts + 0.5).sum(axis=1, keepdims=True) for counts in (known, none)]
    weights = scores / scores.sum(axis=1, keepdims=True)
    share = np.full((len(scores), 1), 0.5)
    for _ in range(_MOST_STEPS):
        before, from_none = share, share * parts[1]
        share = (weights * from_none / (from_none + (1 - share) * parts[0])).sum(axis=1, keepdims=True)
        if np.abs(share - before).max() < _CONVERGED:
            break
    return np.asarray(share[:, 0])


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values of several tests so that one false alarm among them is as rare as each alone (Holm, 1979).

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order, adjusted, highest = np.argsort(p_values), [0.0] * len(p_values), 0.0
    for place, number in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[number]))
        adjusted[number] = highest
    return adjusted


def _refuse_empty(*samples: Sequence[Any] | npt.NDArray[Any]) -> None:
    if not all(len(rows) for rows in samples):
        raise DataError("expected at least one row on both sides of a comparison, got none")

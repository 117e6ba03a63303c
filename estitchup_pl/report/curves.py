"""What the figures show of a method: means over trials with a band of one standard deviation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from estitchup_pl.functional import HEURISTICS, ThresholdCurves, reliability_bins, risk_coverage, threshold_curves
from estitchup_pl.report.averages import mean_over_trials, spread_over_trials
from estitchup_pl.report.runs import HEURISTIC_NAMES, Decisions, Run

Rows = list[dict[str, Any]]

NEAR_ONE: Final = tuple(round(1 - step / 10**digits, digits) for digits in (4, 5, 6) for step in range(9, 0, -1))
"""Thresholds where the confidences of an overconfident classifier crowd."""
PLOT_GRID: Final = np.array([*(step / 100 for step in range(100)), 0.995, 0.999, *NEAR_ONE, 1.0])
RELIABILITY_BINS: Final = 10
HISTOGRAM_BINS: Final = 20
_MOST_EPOCHS: Final = 200
_DIGITS: Final = 4


@dataclass(frozen=True)
class MethodCurves:
    """Rows of the figures of one method.

    Attributes:
        method: Name of the method.
        data: Rows by the name under which the charts ask for them.

            - ``accuracies``: known and "none" accuracy over thresholds on the test rows, with ``x``, ``series``,
              ``mean``, ``low``, ``high`` (Fig. 3).
            - ``reliability``: accuracy and confidence of each bin, with ``x``, ``x2``, ``mean``, ``low``, ``high``,
              ``confidence`` (Fig. 4).
            - ``epochs``: overall and "none" accuracy over epochs, as in Fig. 3, at most 200 of them; empty if a
              method has no epochs (Fig. 5).
            - ``ratios``: TP / (FP + FN) of known classes and "none" over thresholds on the threshold split, as in
              Fig. 3 (Fig. 6).
            - ``threshold_accuracies``: overall and "none" accuracy there (Fig. 6).
            - ``thresholds``: mean threshold of each heuristic, with ``x`` and ``series`` (Fig. 6).
            - ``histogram``: share of the test rows in each bin, with ``x``, ``x2``, ``mean``, ``low``, ``high``
              (Fig. 7).
            - ``risk``: share of errors among the surest rows over the share of rows taken, as in Fig. 3.
    """

    method: str
    data: dict[str, Rows]


def method_curves(method: str, runs: list[Run]) -> MethodCurves:
    """Average the runs of a method.

    Args:
        method: Name of the method.
        runs: Its runs, one a trial.
    """
    validation = [curves_at(run.validation, torch.from_numpy(PLOT_GRID)) for run in runs]
    data = {
        **decision_curves([run.test for run in runs]),
        "epochs": _epochs(runs),
        "ratios": _series(validation, {"known": "ratio_id", "none": "ratio_none"}),
        "threshold_accuracies": _series(validation, {"overall": "accuracy", "none": "accuracy_none"}, highest=1.0),
        "thresholds": _thresholds(runs),
    }
    return MethodCurves(method, data)


def decision_curves(trials: list[Decisions]) -> dict[str, Rows]:
    """Rows of the figures that speak of decisions alone: ``accuracies``, ``reliability``, ``histogram`` and ``risk``.

    Args:
        trials: Decisions on the evaluated rows of each trial.

    Returns:
        Rows as :attr:`MethodCurves.data` has them.
    """
    curves = [curves_at(decisions, torch.from_numpy(PLOT_GRID)) for decisions in trials]
    return {
        "accuracies": _series(curves, {"known": "accuracy_id", "none": "accuracy_none"}, highest=1.0),
        "reliability": _reliability(trials),
        "histogram": _histogram(trials),
        "risk": _risk(trials),
    }


def curves_at(decisions: Decisions, thresholds: Tensor) -> ThresholdCurves:
    """Evaluate decisions over a grid of thresholds."""
    return threshold_curves(decisions.acceptance, decisions.predicted, decisions.labels, thresholds)


def band(values: npt.ArrayLike, highest: float = np.inf) -> list[tuple[float | None, ...]]:
    """Mean over trials and one standard deviation to both sides, cut at 0 and at ``highest``.

    Args:
        values: Values ``(trials, points)``; what is not finite is passed over.
        highest: Greatest possible value.

    Returns:
        ``(mean, low, high)`` of each point, rounded; None where no trial has a value.
    """
    mean = mean_over_trials(values)
    spread = np.nan_to_num(spread_over_trials(values))
    ends = (mean, np.maximum(mean - spread, 0), np.minimum(mean + spread, highest))
    return [tuple(_rounded(value) for value in point) for point in zip(*ends, strict=True)]


def _rounded(value: float) -> float | None:
    return round(float(value), _DIGITS) if np.isfinite(value) else None


def _rows(x: Iterable[float], values: npt.ArrayLike, highest: float = np.inf, **more: Any) -> Rows:
    return [
        {"x": float(place), **more, "mean": mean, "low": low, "high": high}
        for place, (mean, low, high) in zip(x, band(values, highest), strict=True)
    ]


def _series(trials: list[ThresholdCurves], names: dict[str, str], highest: float = np.inf) -> Rows:
    return [
        row
        for series, field in names.items()
        for row in _rows(PLOT_GRID, [trial._asdict()[field].numpy() for trial in trials], highest, series=series)
    ]


def _over_bins(number: int, values: npt.ArrayLike) -> Rows:
    edges = np.arange(number) / number
    return [{**row, "x2": round(row["x"] + 1 / number, 6)} for row in _rows(edges, values, 1.0)]


def _reliability(trials: list[Decisions]) -> Rows:
    bins = [reliability_bins(each.confidence, each.correct, RELIABILITY_BINS) for each in trials]
    confidence = band([trial.confidence.numpy() for trial in bins])
    rows = _over_bins(RELIABILITY_BINS, [trial.accuracy.numpy() for trial in bins])
    return [{**row, "confidence": mean} for row, (mean, *_) in zip(rows, confidence, strict=True)]


def _histogram(trials: list[Decisions]) -> Rows:
    bins = [reliability_bins(each.confidence, each.correct, HISTOGRAM_BINS) for each in trials]
    return _over_bins(HISTOGRAM_BINS, [(trial.counts / trial.counts.sum()).numpy() for trial in bins])


def _risk(trials: list[Decisions]) -> Rows:
    """Risk at each hundredth of the coverage: that of the least part of the rows which covers as much."""
    coverages = np.arange(1, 101) / 100
    risks = []
    for each in trials:
        curve = risk_coverage(each.acceptance, each.correct)
        reached = np.searchsorted(curve.coverage.numpy(), coverages - 1e-9)  # what floats leave out of a hundredth
        risks.append(curve.risk.numpy()[reached])
    return _rows(coverages, risks, 1.0)


def _epochs(runs: list[Run]) -> Rows:
    curves = [run.curve for run in runs if run.curve is not None]
    if not curves:
        return []
    length = min(map(len, curves))
    kept = slice(None, length, -(-length // _MOST_EPOCHS))
    epochs = curves[0]["epoch"].to_numpy()[kept]
    return [
        row
        for series, name in (("overall", "accuracy"), ("none", "accuracy_none"))
        for row in _rows(epochs, [curve[name].to_numpy()[kept] for curve in curves], 1.0, series=series)
    ]


def _thresholds(runs: list[Run]) -> Rows:
    means = {name: mean_over_trials([run.record.thresholds[name] for run in runs]) for name in HEURISTICS}
    return [{"x": round(float(mean), 6), "series": HEURISTIC_NAMES[name]} for name, mean in means.items()]

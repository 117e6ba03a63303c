"""The numbers that a report compares: each metric over trials, and the differences to the control."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from estitchup_pl.functional import FEW_NONE_ROWS, HEURISTICS
from estitchup_pl.report import paper
from estitchup_pl.report.averages import Floats, mean_over_trials, spread_over_trials
from estitchup_pl.report.model import KeptModel
from estitchup_pl.report.significance import Interval

RANKING: Final = {"auroc": "AUROC", "aupr": "AUPR"}
CALIBRATION: Final = {
    "correlation": "Correlation",
    "correlation_id": "Correlation, known",
    "correlation_weighted": "Correlation, by rows",
    "ece": "ECE",
    "ece_id": "ECE, known",
    "classwise_ece": "Classwise ECE",
    "adaptive_ece": "Adaptive ECE",
}
ACCURACIES: Final = {
    "threshold": "Threshold",
    "accuracy_id": "Known acc.",
    "accuracy_none": "None acc.",
    "accuracy": "Overall acc.",
}
DETECTION: Final = {"none_auroc": "None AUROC", "none_ap": "None AP", "none_fpr95": "None FPR95"}
ACCEPTED: Final = {"accuracy_accepted": "Acc. of accepted", "coverage": "Coverage"}
RISK: Final = {"aurc": "AURC", "augrc": "AUGRC"}
LOWER_IS_BETTER: Final = {"ece", "ece_id", "classwise_ece", "adaptive_ece", "none_fpr95", *RISK}
CONVERGENCE: Final = "epochs_to_convergence"
LATE: Final = 0.75
"""Share of the epochs after which a run that is still on its way to its best may not have come to it."""

FACTS: Final = ("train_rows", "none_rows")
"""Results that are no scores: they stand in what the page says of the study."""


@dataclass(frozen=True)
class Comparison:
    """Methods compared with a control over trials.

    Attributes:
        name: Name of the study.
        control: The method that all others are compared with.
        methods: Methods in the study's order.
        trials: Numbers of the trials.
        left_out: Why each method that is missing is missing.
        beside_paper: Whether the paper's values are shown.
        values: For each method and metric one value a trial, NaN where there is none.
        intervals: For each method but the control the difference to it in each metric that has an interval.
        chosen: For each method and trial the hyperparameters that were chosen, by name.
        threshold_intervals: For each method and trial, by heuristic, how far its threshold can be trusted: ``low``,
            ``high``, ``none_rows``, ``none_classes``.
        compared: For each method that chooses among others and each trial its candidates, see ``RunRecord.selection``.
        higher_is_better: Whether a higher value of a metric is better, None where neither is; by the metric's name.
        model: The classifier that is kept, if any is.
        epochs: Epochs of a final fit.
    """

    name: str
    control: str
    methods: tuple[str, ...]
    trials: tuple[int, ...]
    left_out: dict[str, str]
    beside_paper: bool
    values: dict[str, dict[str, Floats]]
    intervals: dict[str, dict[str, Interval]]
    chosen: dict[str, list[dict[str, Any]]]
    higher_is_better: Mapping[str, bool | None] = field(default_factory=dict)
    threshold_intervals: Mapping[str, list[dict[str, dict[str, float]]]] = field(default_factory=dict)
    compared: Mapping[str, list[list[dict[str, Any]]]] = field(default_factory=dict)
    model: KeptModel | None = None
    epochs: int = 0

    def trials_of(self, method: str, metric: str) -> Floats:
        """Values of a metric, one a trial, ``(trials,)``."""
        return self.values[method].get(metric, np.full(len(self.trials), np.nan))

    def mean(self, method: str, metric: str) -> float:
        """Mean of a metric over trials."""
        return float(mean_over_trials(self.trials_of(method, metric)))

    def spread(self, method: str, metric: str) -> float:
        """Sample standard deviation of a metric over trials."""
        return float(spread_over_trials(self.trials_of(method, metric)))

    def difference(self, method: str, metric: str) -> Floats:
        """Difference to the control in each trial, ``(trials,)``."""
        return self.trials_of(method, metric) - self.trials_of(self.control, metric)

    def best(self, scores: Mapping[str, float]) -> str | None:
        """Name the method of the greatest score; the first of several, None where no score is finite."""
        known = [method for method in self.methods if math.isfinite(scores[method])]
        return max(known, key=scores.__getitem__, default=None)

    @property
    def detection(self) -> dict[str, str]:
        """Metrics of the detection of "none" by their heads, those of its groups after those of all."""
        found = dict.fromkeys(metric for method in self.methods for metric in self.values[method])
        names = [name.split("/", 1) for name in found if name.split("/")[0] in DETECTION and "/" in name]
        groups = sorted(names, key=lambda name: (name[1], [*DETECTION].index(name[0])))
        return DETECTION | {f"{metric}/{group}": f"{DETECTION[metric]}, {group}" for metric, group in groups}

    @property
    def rules(self) -> list[str]:
        """Rules that found thresholds: the paper's heuristics, then those that the study adds."""
        metrics = dict.fromkeys(metric for method in self.methods for metric in self.values[method])
        found = [metric.removeprefix("threshold/") for metric in metrics if metric.startswith("threshold/")]
        return [*HEURISTICS, *(rule for rule in found if rule not in HEURISTICS)]

    @property
    def few_none_rows(self) -> list[int]:
        """The "none" rows of each trial, where one of them has few, below :data:`FEW_NONE_ROWS`; else nothing."""
        rows = [int(rows) for rows in self.trials_of(self.control, "none_rows") if math.isfinite(rows)]
        return rows if rows and 0 < min(rows) < FEW_NONE_ROWS else []

    def still_improving(self, method: str) -> tuple[int, int]:
        """Runs that came within 1 % of their best only in the last quarter of their epochs, and all with epochs."""
        found = self.trials_of(method, CONVERGENCE)
        there = found[np.isfinite(found)]
        return int((there > LATE * self.epochs).sum()) if self.epochs else 0, len(there)

    def basis(self, method: str, heuristic: str, name: str) -> list[float]:
        """One part of the intervals of a method's thresholds, such as ``low``, of each trial that has one."""
        trials = self.threshold_intervals.get(method, [])
        return [float(trial[heuristic][name]) for trial in trials if heuristic in trial]

    @property
    def further(self) -> list[str]:
        """Metrics that the paper's tables do not show, such as a user's own, in the order of the results."""
        at_thresholds = (f"{name}/{heuristic}" for heuristic in self.rules for name in (*ACCURACIES, *ACCEPTED))
        shown = {*RANKING, *CALIBRATION, *self.detection, *RISK, *at_thresholds, CONVERGENCE}
        found = dict.fromkeys(metric for method in self.methods for metric in self.values[method])
        return [metric for metric in found if metric not in shown and metric not in FACTS]

    def to_json(self) -> dict[str, Any]:
        """All numbers in full precision; None where there is none."""
        return {
            "format": 1,
            "study": self.name,
            "control": self.control,
            "trials": list(self.trials),
            "methods": list(self.methods),
            "left_out": self.left_out,
            "table1": {method: self._numbers(method, RANKING) | self._differences(method) for method in self.methods},
            "table2": {method: self._numbers(method, CALIBRATION) for method in self.methods},
            "table3": {
                method: {h: self._numbers(method, ACCURACIES, f"/{h}") for h in self.rules} for method in self.methods
            },
            "table4": {
                method: self._numbers(method, [*self.detection, *RISK])
                | {h: self._numbers(method, ACCEPTED, f"/{h}") for h in self.rules}
                for method in self.methods
            },
            "differences": {
                method: {metric: _interval(interval) for metric, interval in intervals.items()}
                for method, intervals in self.intervals.items()
            },
            "threshold_intervals": self.threshold_intervals,
            CONVERGENCE: {method: _moments(self.trials_of(method, CONVERGENCE)) for method in self.methods},
            "further": {method: self._numbers(method, self.further) for method in self.methods},
            "chosen": self.chosen,
            "compared": dict(self.compared),
            "model": self.model._asdict() if self.model else None,
            "paper": {"table1": paper.TABLE_1, "table2": paper.TABLE_2, "table3": paper.TABLE_3}
            if self.beside_paper
            else None,
        }

    def _numbers(self, method: str, metrics: Collection[str], suffix: str = "") -> dict[str, Any]:
        return {metric: _moments(self.trials_of(method, metric + suffix)) for metric in metrics}

    def _differences(self, method: str) -> dict[str, Any]:
        if method == self.control:
            return {}
        return {f"{metric}_difference": _moments(self.difference(method, metric)) for metric in RANKING}


def count_text(counts: Collection[float]) -> str:
    """Write a count, or from where to where it goes over trials.

    Example:
        >>> count_text([12, 29, 12]), count_text([30.0])
        ('12 to 29', '30')
    """
    low, high = int(min(counts)), int(max(counts))
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _moments(values: Floats) -> dict[str, float | None]:
    return {"mean": _finite(float(mean_over_trials(values))), "sd": _finite(float(spread_over_trials(values)))}


def _interval(interval: Interval) -> dict[str, Any]:
    ends = {name: _finite(value) for name, value in interval._asdict().items()}
    return {**ends, "excludes_zero": interval.excludes_zero}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

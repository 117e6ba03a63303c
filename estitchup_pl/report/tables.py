"""The paper's tables of a study, with its printed values beside them, and which differences are real."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult

from estitchup_pl.functional import HEURISTICS
from estitchup_pl.report import paper
from estitchup_pl.report.averages import Floats, mean_over_trials, spread_over_trials
from estitchup_pl.report.runs import HEURISTIC_NAMES, StudyRuns, read_study
from estitchup_pl.report.significance import METRICS, Interval, paired_intervals
from estitchup_pl.report.text_table import MISSING, TextTable, number, threshold, with_spread
from estitchup_pl.study.folder import StudyFolder

RANKING: Final = {"auroc": "AUROC", "aupr": "AUPR"}
CALIBRATION: Final = {
    "correlation": "Correlation",
    "correlation_id": "Correlation, known",
    "ece": "ECE",
    "classwise_ece": "Classwise ECE",
    "adaptive_ece": "Adaptive ECE",
}
ACCURACIES: Final = {
    "threshold": "Threshold",
    "accuracy_id": "Known acc.",
    "accuracy_none": "None acc.",
    "accuracy": "Overall acc.",
}
_METRIC_NAMES: Final = {**RANKING, "ece": "ECE", "correlation": "Correlation"}


@dataclass(frozen=True)
class StudyTables:
    """Tables of a study; printable with rich.

    Attributes:
        name: Name of the study.
        control: The method that all others are compared with.
        methods: Methods in the study's order.
        trials: Numbers of the trials.
        left_out: Why each method that is missing is missing.
        beside_paper: Whether the paper's values are shown.
        values: For each method and metric one value a trial, NaN where there is none.
        intervals: For each method but the control the difference to it in AUROC, AUPR, ECE and correlation.
    """

    name: str
    control: str
    methods: tuple[str, ...]
    trials: tuple[int, ...]
    left_out: dict[str, str]
    beside_paper: bool
    values: dict[str, dict[str, Floats]]
    intervals: dict[str, dict[str, Interval]]

    def trials_of(self, method: str, metric: str) -> Floats:
        """Values of a metric, one a trial, ``(trials,)``."""
        return self.values[method].get(metric, np.full(len(self.trials), np.nan))

    def mean(self, method: str, metric: str) -> float:
        """Mean of a metric over trials."""
        return float(mean_over_trials(self.trials_of(method, metric)))

    def difference(self, method: str, metric: str) -> Floats:
        """Difference to the control in each trial, ``(trials,)``."""
        return self.trials_of(method, metric) - self.trials_of(self.control, metric)

    def tables(self) -> list[TextTable]:
        """All tables as text."""
        return [
            self._ranking(),
            self._calibration(),
            *(self._accuracies(heuristic, letter) for heuristic, letter in zip(HEURISTICS, "ab", strict=True)),
            self._differences(),
            self._convergence(),
        ]

    def markdown(self) -> str:
        """Page with all tables."""
        missing = "".join(f"\n{method}: {why}; left out.\n" for method, why in self.left_out.items())
        return f"# {self.name}\n\n{self.summary()}\n{missing}\n" + "\n".join(
            table.markdown() for table in self.tables()
        )

    def summary(self) -> str:
        """One sentence on what was compared."""
        trials = f"{len(self.trials)} trial{'s' if len(self.trials) > 1 else ''}"
        return f"{len(self.methods)} methods, {trials}; all compared with {self.control}."

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Print all tables."""
        yield f"{self.name}: {self.summary()}"
        for method, why in self.left_out.items():
            yield f"{method}: {why}; left out."
        for table in self.tables():
            yield ""
            yield table.console()

    def to_json(self) -> dict[str, Any]:
        """All numbers in full precision; None where there is none."""
        return {
            "format": 1,
            "study": self.name,
            "control": self.control,
            "trials": list(self.trials),
            "methods": list(self.methods),
            "left_out": self.left_out,
            "table1": {method: self._ranking_numbers(method) for method in self.methods},
            "table2": {method: self._numbers(method, CALIBRATION) for method in self.methods},
            "table3": {
                method: {h: self._numbers(method, ACCURACIES, f"/{h}") for h in HEURISTICS} for method in self.methods
            },
            "differences": {
                method: {metric: _interval(interval) for metric, interval in intervals.items()}
                for method, intervals in self.intervals.items()
            },
            "epochs_to_convergence": {
                method: self._moments(self.trials_of(method, "epochs_to_convergence")) for method in self.methods
            },
            "paper": {"table1": paper.TABLE_1, "table2": paper.TABLE_2, "table3": paper.TABLE_3}
            if self.beside_paper
            else None,
        }

    def json(self) -> str:
        """Text of :meth:`to_json`."""
        return json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n"

    def _ranking_numbers(self, method: str) -> dict[str, Any]:
        numbers = self._numbers(method, RANKING)
        differences = {f"{metric}_difference": self._moments(self.difference(method, metric)) for metric in RANKING}
        return numbers if method == self.control else numbers | differences

    def _numbers(self, method: str, metrics: dict[str, str], suffix: str = "") -> dict[str, Any]:
        return {metric: self._moments(self.trials_of(method, metric + suffix)) for metric in metrics}

    @staticmethod
    def _moments(values: Floats) -> dict[str, float | None]:
        return {"mean": _finite(mean_over_trials(values)), "sd": _finite(spread_over_trials(values))}

    def _ranking(self) -> TextTable:
        def cells(method: str) -> Iterator[str]:
            is_control = method == self.control
            for metric in RANKING:
                values = self.trials_of(method, metric) if is_control else self.difference(method, metric)
                mean = number(float(mean_over_trials(values)), sign=not is_control)
                yield with_spread(mean, float(spread_over_trials(values)))
            if self.beside_paper:
                printed = paper.TABLE_1.get(method, {})
                for metric in RANKING:
                    value, spread = printed.get(metric, (math.nan, math.nan))
                    yield with_spread(number(value, sign=method != "Control"), spread) if printed else MISSING

        return TextTable(
            "table-1",
            "Table 1: ranking",
            f'AUROC and AUPR over all classes and "none", weighted by support: for {self.control} the mean over '
            "trials, for every other method the mean difference to it; in brackets the standard deviation over "
            "trials (of the paired differences).",
            ("Method", *RANKING.values(), *self._paper_columns(RANKING.values())),
            tuple((method, *cells(method)) for method in self.methods),
            self._best({"auroc": 1, "aupr": 1}),
        )

    def _calibration(self) -> TextTable:
        def cells(method: str) -> Iterator[str]:
            yield from (number(self.mean(method, metric)) for metric in CALIBRATION)
            if self.beside_paper:
                yield number(paper.TABLE_2.get(method, math.nan))

        return TextTable(
            "table-2",
            "Table 2: calibration",
            "Correlation of mean confidence and accuracy over ten bins, over all rows and over the rows of known "
            "classes; calibration errors (lower is better). Means over trials.",
            ("Method", *CALIBRATION.values(), *self._paper_columns(["correlation"])),
            tuple((method, *cells(method)) for method in self.methods),
            self._best({metric: -1 if metric.endswith("ece") else 1 for metric in CALIBRATION}),
        )

    def _accuracies(self, heuristic: str, letter: str) -> TextTable:
        def cells(method: str) -> Iterator[str]:
            means = {metric: self.mean(method, f"{metric}/{heuristic}") for metric in ACCURACIES}
            yield from (threshold(v) if metric == "threshold" else number(v) for metric, v in means.items())
            if self.beside_paper:
                printed = paper.TABLE_3.get(method, {})
                yield from (f"{printed[metric]:.2f}" if printed else MISSING for metric in ACCURACIES)

        return TextTable(
            f"table-3{letter}",
            f"Table 3{letter}: accuracy at the threshold of the {HEURISTIC_NAMES[heuristic]} heuristic",
            'Accuracy of known classes, of "none" and of all rows at the threshold that the heuristic found on the '
            "threshold split of each trial. Means over trials."
            + (" The paper does not say which heuristic its table shows." if self.beside_paper else ""),
            ("Method", *ACCURACIES.values(), *self._paper_columns(ACCURACIES.values())),
            tuple((method, *cells(method)) for method in self.methods),
        )

    def _differences(self) -> TextTable:
        return TextTable(
            "differences",
            f"Which differences to {self.control} are real",
            "Mean difference and its 95 % bootstrap interval over trials and the rows within them; * where it excludes "
            "zero. For AUROC and AUPR the rank of each row is held fixed, for ECE and correlation the bins are filled "
            "anew.",
            ("Method", *(_METRIC_NAMES[metric] for metric in METRICS)),
            tuple(
                (method, *(interval_text(self.intervals[method][metric]) for metric in METRICS))
                for method in self.methods
                if method != self.control
            ),
        )

    def _convergence(self) -> TextTable:
        def cell(method: str) -> str:
            epochs = self.trials_of(method, "epochs_to_convergence")
            mean, spread = float(mean_over_trials(epochs)), float(spread_over_trials(epochs))
            return f"{mean:.1f} ({spread:.1f})".replace("nan", MISSING) if math.isfinite(mean) else MISSING

        return TextTable(
            "convergence",
            "Epochs to convergence",
            "First epoch whose overall accuracy is within 1 % of the best of the run; in brackets the standard "
            "deviation over trials."
            + (" The paper: E-Mixup takes half the epochs of the control (Sec. 4.1)." if self.beside_paper else ""),
            ("Method", "Epochs"),
            tuple((method, cell(method)) for method in self.methods),
        )

    def _paper_columns(self, names: Any) -> tuple[str, ...]:
        return tuple(f"Paper: {name[0].lower() + name[1:] if name[1:2].islower() else name}" for name in names) * (
            self.beside_paper
        )

    def _best(self, metrics: dict[str, int]) -> frozenset[tuple[int, int]]:
        """Places of the best method in each column; ``metrics`` gives 1 where more is better, else -1."""
        best = set()
        for column, (metric, sign) in enumerate(metrics.items(), start=1):
            means = [sign * self.mean(method, metric) for method in self.methods]
            if any(map(math.isfinite, means)):
                best.add((int(np.nanargmax(means)), column))
        return frozenset(best)


def study_tables(folder: StudyFolder) -> StudyTables:
    """Make the tables of a study.

    Raises:
        DataError: If the folder is no study's, or its control or its results are not complete.
    """
    return tables_of(read_study(folder))


def tables_of(study: StudyRuns) -> StudyTables:
    """Make the tables of runs that are read already."""
    return StudyTables(
        str(study.header["name"]),
        study.control,
        study.methods,
        study.trials,
        study.left_out,
        bool(study.header.get("paper")),
        study.values,
        paired_intervals(study),
    )


def interval_text(interval: Interval) -> str:
    """Write a difference with its interval.

    Example:
        >>> interval_text(Interval(0.02, 0.01, 0.03))
        '+0.0200 [+0.0100, +0.0300] *'
    """
    low, high = number(interval.low, sign=True), number(interval.high, sign=True)
    return f"{number(interval.difference, sign=True)} [{low}, {high}]{' *' if interval.excludes_zero else ''}"


def _interval(interval: Interval) -> dict[str, Any]:
    ends = {name: _finite(value) for name, value in interval._asdict().items()}
    return {**ends, "excludes_zero": interval.excludes_zero}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None

"""Each table of a report as text: the paper's first, then what the study has beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import numpy as np

from estitchup_pl.functional import FEW_NONE_ROWS, HEURISTICS
from estitchup_pl.report import paper
from estitchup_pl.report.averages import mean_over_trials, spread_over_trials
from estitchup_pl.report.comparison import (
    ACCEPTED,
    ACCURACIES,
    CALIBRATION,
    CONVERGENCE,
    DETECTION,
    LOWER_IS_BETTER,
    RANKING,
    RISK,
    Comparison,
    count_text,
)
from estitchup_pl.report.few import interval_of
from estitchup_pl.report.runs import HEURISTIC_NAMES
from estitchup_pl.report.significance import METRICS, Interval
from estitchup_pl.report.text_table import MISSING, TextTable, number, threshold, values_text, with_spread

_EMPTY: Final = (MISSING, f"{MISSING} ({MISSING})", f"{MISSING} [{MISSING}, {MISSING}]")


def all_tables(study: Comparison) -> list[TextTable]:
    """Every table for which the study has something."""
    tables = [
        ranking(study),
        calibration(study),
        *(accuracies(study, heuristic, letter) for heuristic, letter in zip(HEURISTICS, "ab", strict=True)),
        *(decisions(study, rule, number) for number, rule in enumerate(study.rules[len(HEURISTICS) :], 1)),
        thresholds(study),
        detection(study),
        risk(study),
        differences(study),
        convergence(study),
        further(study),
        chosen(study),
        choices(study),
    ]
    return [table for table in tables if any(cell not in _EMPTY for row in table.rows for cell in row[1:])]


def ranking(study: Comparison) -> TextTable:
    """Table 1: the control as it is, the others by their difference to it."""

    def cells(method: str) -> Iterator[str]:
        is_control = method == study.control
        for metric in RANKING:
            values = study.trials_of(method, metric) if is_control else study.difference(method, metric)
            mean = number(float(mean_over_trials(values)), sign=not is_control)
            yield with_spread(mean, float(spread_over_trials(values)))
        if study.beside_paper:
            printed = paper.TABLE_1.get(method, {})
            for metric in RANKING:
                value, spread = printed.get(metric, (math.nan, math.nan))
                yield with_spread(number(value, sign=method != "Control"), spread) if printed else MISSING

    return TextTable(
        "table-1",
        "Table 1: ranking",
        f'AUROC and AUPR over all classes and "none", weighted by support: for {study.control} the mean over '
        "trials, for every other method the mean difference to it; in brackets the standard deviation over "
        "trials (of the paired differences).",
        ("Method", *RANKING.values(), *_paper_columns(study, RANKING.values())),
        tuple((method, *cells(method)) for method in study.methods),
        _best(study, dict.fromkeys(RANKING, 1)),
    )


def calibration(study: Comparison) -> TextTable:
    """Table 2, and calibration errors beside the correlation."""

    def cells(method: str) -> Iterator[str]:
        yield from (number(study.mean(method, metric)) for metric in CALIBRATION)
        if study.beside_paper:
            yield number(paper.TABLE_2.get(method, math.nan))

    return TextTable(
        "table-2",
        "Table 2: calibration",
        "Correlation of mean confidence and accuracy over ten bins, over all rows, over the rows of known classes, and "
        "over all rows with each bin weighted by its rows; calibration errors (lower is better). Means over trials. "
        'ECE counts every "none" row as wrong, so where there are many it rewards confidences that are too low; the '
        "ECE of known rows says whether a confidence can be believed once an item is known to be of a known class.",
        ("Method", *CALIBRATION.values(), *_paper_columns(study, ["correlation"])),
        tuple((method, *cells(method)) for method in study.methods),
        _best(study, _signs(CALIBRATION)),
    )


def accuracies(study: Comparison, heuristic: str, letter: str) -> TextTable:
    """Table 3 of one heuristic."""

    def cells(method: str) -> Iterator[str]:
        means = {metric: study.mean(method, f"{metric}/{heuristic}") for metric in ACCURACIES}
        yield threshold(means["threshold"])
        yield number(means["accuracy_id"])
        yield _share_of_few(means["accuracy_none"], study)
        yield number(means["accuracy"])
        if study.beside_paper:
            printed = paper.TABLE_3.get(method, {})
            yield from (f"{printed[metric]:.2f}" if printed else MISSING for metric in ACCURACIES)

    return TextTable(
        f"table-3{letter}",
        f"Table 3{letter}: accuracy at the threshold of the {HEURISTIC_NAMES[heuristic]} heuristic",
        'Accuracy of known classes, of "none" and of all rows at the threshold that the heuristic found on the '
        "threshold splits of each trial. Means over trials."
        + (" Of few rows with the 95 % interval of a share of the rows of one trial." if study.few_none_rows else "")
        + (" The paper does not say which heuristic its table shows." if study.beside_paper else ""),
        ("Method", *ACCURACIES.values(), *_paper_columns(study, ACCURACIES.values())),
        tuple((method, *cells(method)) for method in study.methods),
    )


def decisions(study: Comparison, rule: str, position: int) -> TextTable:
    """Table 3 of a rule that the study adds, with what is accepted."""
    columns = ACCURACIES | ACCEPTED

    def cells(method: str) -> Iterator[str]:
        means = {metric: study.mean(method, f"{metric}/{rule}") for metric in columns}
        yield threshold(means.pop("threshold"))
        yield from map(number, means.values())

    return TextTable(
        f"table-3-rule-{position}",
        f"Table 3, {rule}",
        f'The same at the threshold of the rule "{rule}" of this study, and what is accepted there: the share of right '
        'decisions, an accepted "none" row being wrong, and the share of all rows that is accepted. Means over trials.',
        ("Method", *columns.values()),
        tuple((method, *cells(method)) for method in study.methods),
    )


def thresholds(study: Comparison) -> TextTable:
    """How far the thresholds can be trusted, and how many "none" rows they rest on."""

    def cells(method: str) -> Iterator[str]:
        for heuristic in HEURISTICS:
            ends = [study.basis(method, heuristic, name) for name in ("low", "high")]
            low, high = (threshold(float(mean_over_trials(end or [math.nan]))) for end in ends)
            yield f"{threshold(study.mean(method, f'threshold/{heuristic}'))} [{low}, {high}]"
        for name in ("none_rows", "none_classes"):
            counts = study.basis(method, HEURISTICS[0], name)
            few = name == "none_rows" and counts and min(counts) < FEW_NONE_ROWS
            yield (count_text(counts) if counts else MISSING) + (" (few)" if few else "")

    methods = [method for method in study.methods if study.basis(method, HEURISTICS[0], "low")]
    return TextTable(
        "thresholds",
        "How far the thresholds can be trusted",
        'Threshold and its 95 % interval over resampled unknown classes, means over trials; and the "none" rows of how '
        "many classes, pooled over the threshold splits of a trial, that it was found on. "
        f"Below {FEW_NONE_ROWS} rows a threshold is a rough one.",
        ("Method", *(f"By {HEURISTIC_NAMES[heuristic]}" for heuristic in HEURISTICS), '"None" rows', "Classes"),
        tuple((method, *cells(method)) for method in methods),
    )


def detection(study: Comparison) -> TextTable:
    """Table 4a: how well "none" is told from everything known, by groups where there are any."""

    def cells(method: str) -> Iterator[str]:
        for metric in study.detection:
            yield _of_few(number(study.mean(method, metric)), study)

    return TextTable(
        "table-4a",
        'Table 4a: detecting "none"',
        '"None" rows against the rows of known classes, by the score of "none" that the method decides by: AUROC, '
        'average precision (which rises with the share of "none" rows), and the share of known rows that are taken for '
        '"none" where 95 % of the "none" rows are found (lower is better). Means over trials.'
        + (' A group is a part of the "none" rows against all known ones.' if len(study.detection) > 3 else ""),
        ("Method", *study.detection.values()),
        tuple((method, *cells(method)) for method in study.methods),
        _best(study, _signs(study.detection)),
    )


def risk(study: Comparison) -> TextTable:
    """Table 4b: how often what is accepted is wrong, a "none" row that is accepted being an error."""
    heads = {f"{metric}/{h}": f"{head}, {HEURISTIC_NAMES[h]}" for h in HEURISTICS for metric, head in ACCEPTED.items()}
    columns = {**heads, **RISK}
    return TextTable(
        "table-4b",
        "Table 4b: what is accepted",
        'Share of right decisions among the accepted rows, an accepted "none" row being wrong, beside the share that '
        "is accepted, at the threshold of each heuristic; and over all thresholds the area under the risk-coverage "
        "curve (AURC) and under its generalized one (AUGRC; lower is better). Means over trials.",
        ("Method", *columns.values()),
        tuple((method, *(number(study.mean(method, metric)) for metric in columns)) for method in study.methods),
        _best(study, {metric: -1 if metric in RISK else math.nan for metric in columns}),
    )


def differences(study: Comparison) -> TextTable:
    """Differences to the control with their intervals."""
    return TextTable(
        "differences",
        f"Which differences to {study.control} are real",
        "Mean difference and its 95 % bootstrap interval; * where it excludes zero by more than rounding. Trials are "
        'drawn anew, within them the rows of known classes one by one, and "none" rows by whole classes, since rows of '
        "one unknown class are alike. For AUROC, AUPR and none AUROC the rank of each row is held fixed, for ECE and "
        "correlation the bins are filled anew.",
        ("Method", *((RANKING | DETECTION | CALIBRATION)[metric] for metric in METRICS)),
        tuple(
            (method, *(interval_text(study.intervals[method][metric]) for metric in METRICS))
            for method in study.methods
            if method != study.control
        ),
    )


def convergence(study: Comparison) -> TextTable:
    """Epochs to convergence (Sec. 4.1), and whether there were enough of them."""

    def cells(method: str) -> Iterator[str]:
        mean, spread = study.mean(method, CONVERGENCE), study.spread(method, CONVERGENCE)
        yield f"{mean:.1f} ({spread:.1f})".replace("nan", MISSING) if math.isfinite(mean) else MISSING
        improving, runs = study.still_improving(method)
        yield f"{improving} of {runs}" if runs and study.epochs else MISSING

    return TextTable(
        "convergence",
        "Epochs to convergence",
        "First epoch whose overall accuracy is within 1 % of the best of the run; in brackets the standard deviation "
        "over trials. Runs for which that is in the last quarter of their epochs were still improving."
        + (" The paper: E-Mixup takes half the epochs of the control (Sec. 4.1)." if study.beside_paper else ""),
        ("Method", "Epochs", "Still improving"),
        tuple((method, *cells(method)) for method in study.methods),
    )


def further(study: Comparison) -> TextTable:
    """Metrics that the other tables do not know by name, those at a threshold once for each heuristic."""
    at_thresholds = {f"{m}/{h}": better for m, better in study.higher_is_better.items() for h in HEURISTICS}
    higher = {**at_thresholds, **study.higher_is_better}
    signs = {None: math.nan, True: 1, False: -1}
    return TextTable(
        "further",
        "Further metrics",
        "Means over trials of all other metrics of the study; in brackets the standard deviation.",
        ("Method", *study.further),
        tuple(
            (method, *(with_spread(number(study.mean(method, m)), study.spread(method, m)) for m in study.further))
            for method in study.methods
        ),
        _best(study, {metric: signs[higher.get(metric)] for metric in study.further}),
    )


def chosen(study: Comparison) -> TextTable:
    """Hyperparameters of each trial, for the methods that have any."""
    return TextTable(
        "chosen",
        "Chosen hyperparameters",
        "What was chosen or fitted in each trial from its training rows alone.",
        ("Method", *(f"Trial {trial}" for trial in study.trials)),
        tuple(
            (method, *map(values_text, study.chosen[method])) for method in study.methods if any(study.chosen[method])
        ),
    )


def choices(study: Comparison) -> TextTable:
    """What each method that chooses has chosen among, and in how many trials it took which."""
    rows = []
    for method, trials in study.compared.items():
        for name in dict.fromkeys(entry["method"] for entries in trials for entry in entries):
            entries = [entry for trial in trials for entry in trial if entry["method"] == name]
            taken = sum(entry["chosen"] for entry in entries)
            if taken or len(entries) == len(trials):  # an average of other methods in each trial is rare
                means = (number(float(np.mean([entry[key] for entry in entries]))) for key in ("score", "ece"))
                rows.append((method, name, *means, f"{taken} of {len(trials)}"))
    return TextTable(
        "choices",
        "Choices among methods",
        "What was chosen among on the validation rows of the threshold splits, the best first: the mean target over "
        "trials, the calibration error on known rows, which decides among equals, and in how many trials it was taken.",
        ("Method", "Candidate", "Target", "ECE, known", "Chosen in"),
        tuple(rows),
    )


def interval_text(interval: Interval) -> str:
    """Write a difference with its interval.

    Example:
        >>> interval_text(Interval(0.02, 0.01, 0.03))
        '+0.0200 [+0.0100, +0.0300] *'
    """
    low, high = number(interval.low, sign=True), number(interval.high, sign=True)
    return f"{number(interval.difference, sign=True)} [{low}, {high}]{' *' if interval.excludes_zero else ''}"


def _of_few(text: str, study: Comparison) -> str:
    """Say at a number about "none" that it rests on few rows, if it does."""
    few = study.few_none_rows
    return f"{text} ({count_text(few)} rows)" if few and text != MISSING else text


def _share_of_few(share: float, study: Comparison) -> str:
    """A share of "none" rows with its interval, if they are few."""
    few = study.few_none_rows
    return _of_few(number(share) + (interval_of(share, min(few)) if few else ""), study)


def _signs(metrics: Iterable[str]) -> dict[str, float]:
    return {metric: -1 if metric.split("/")[0] in LOWER_IS_BETTER else 1 for metric in metrics}


def _paper_columns(study: Comparison, names: Iterable[str]) -> tuple[str, ...]:
    heads = (f"Paper: {name[0].lower() + name[1:] if name[1:2].islower() else name}" for name in names)
    return tuple(heads) if study.beside_paper else ()


def _best(study: Comparison, metrics: Mapping[str, float]) -> frozenset[tuple[int, int]]:
    """Places of the best method in each column; ``metrics`` gives 1 where more is better, -1 where less, else NaN."""
    return frozenset(
        (study.methods.index(best), column)
        for column, (metric, sign) in enumerate(metrics.items(), start=1)
        if (best := study.best({method: sign * study.mean(method, metric) for method in study.methods})) is not None
    )

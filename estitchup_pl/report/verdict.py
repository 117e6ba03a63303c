"""The answers that a reader looks for first: which method for ranking, for calibration, for telling "none"."""

from __future__ import annotations

import math
from typing import NamedTuple

from estitchup_pl.report.comparison import Comparison, count_text
from estitchup_pl.report.few import interval_of
from estitchup_pl.report.significance import Interval
from estitchup_pl.report.text_table import number, threshold


class Answer(NamedTuple):
    """One answer.

    Attributes:
        question: What is asked.
        method: The method that is best.
        why: The numbers that say so.
    """

    question: str
    method: str
    why: str


def verdict(study: Comparison) -> list[Answer]:
    """Name the best method for ranking, for calibration and for telling "none", each with its interval.

    Where there is one method alone there is nothing to compare; of "none" it speaks where there are "none" rows.
    """
    if len(study.methods) < 2:
        return []
    answers = (_ranking(study), _calibration(study), _none(study))
    return [answer for answer in answers if answer is not None]


def _ranking(study: Comparison) -> Answer | None:
    best = _best(study, "aupr", 1)
    if best is None:
        return None
    why = f"AUPR {number(study.mean(best, 'aupr'))}, AUROC {number(study.mean(best, 'auroc'))}. "
    return Answer("Ranks best", best, why + _compared(study, best, "AUPR", "aupr", 1))


def _calibration(study: Comparison) -> Answer | None:
    best = _best(study, "ece", -1)
    if best is None:
        return None
    why = f"ECE {number(study.mean(best, 'ece'))}, correlation {number(study.mean(best, 'correlation'))}. "
    why += _compared(study, best, "ECE", "ece", -1)
    closest = _best(study, "correlation", 1) or best
    if closest != best:
        why += f" {closest} has the greatest correlation, {number(study.mean(closest, 'correlation'))}. "
        why += _compared(study, closest, "Correlation", "correlation", 1)
    return Answer("Is calibrated best", best, why)


def _none(study: Comparison) -> Answer | None:
    best = _best(study, "none_auroc", 1)
    if best is None:
        return None
    known, none = (study.mean(best, f"accuracy_{kind}/intersection") for kind in ("id", "none"))
    few = study.few_none_rows
    why = (
        f"None AUROC {number(study.mean(best, 'none_auroc'))}. {_compared(study, best, 'None AUROC', 'none_auroc', 1)}"
    )
    if math.isfinite(known) and math.isfinite(none):
        at = threshold(study.mean(best, "threshold/intersection"))
        of_few = f"{interval_of(none, min(few))} of {count_text(few)} rows" if few else ""
        why += (
            f' At the intersection threshold ({at} on average) "none" accuracy is {number(none)}{of_few}, known '
            f"accuracy {number(known)}."
        )
    return Answer('Tells "none" best', best, why)


def _best(study: Comparison, metric: str, sign: int) -> str | None:
    return study.best({method: sign * study.mean(method, metric) for method in study.methods})


def _compared(study: Comparison, method: str, name: str, metric: str, sign: int) -> str:
    """The difference to the control; of the control itself that of the method that comes next."""
    if method != study.control:
        interval = study.intervals[method][metric]
        return f"{name} {_with_ends(interval)} against {study.control}{_real(interval)}"
    scores = {other: sign * study.mean(other, metric) for other in study.methods}
    second = study.best({**scores, study.control: math.nan})
    if second is None:
        return ""
    interval = study.intervals[second][metric]
    return f"Next is {second}, {name} {_with_ends(interval)}{_real(interval)}"


def _real(interval: Interval) -> str:
    return ": a real difference." if interval.excludes_zero else ", which may be chance."


def _with_ends(interval: Interval) -> str:
    low, high = number(interval.low, sign=True), number(interval.high, sign=True)
    return f"{number(interval.difference, sign=True)} (95 % interval {low} to {high})"

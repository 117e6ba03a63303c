"""The answers that a reader looks for first: which method for ranking, for calibration, for balance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from estitchup_pl.report.comparison import Comparison
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
    """Name the best method for ranking, for calibration and for balance, with the numbers, as far as there are any."""
    answers = (_ranking(study), _calibration(study), _balance(study))
    return [answer for answer in answers if answer is not None]


def _ranking(study: Comparison) -> Answer | None:
    best = study.best({method: study.mean(method, "aupr") for method in study.methods})
    if best is None:
        return None
    why = f"AUPR {number(study.mean(best, 'aupr'))}, AUROC {number(study.mean(best, 'auroc'))}. "
    return Answer("Ranks best", best, why + _against_control(study, best, "AUPR", "aupr"))


def _calibration(study: Comparison) -> Answer | None:
    best = study.best({method: -study.mean(method, "ece") for method in study.methods})
    if best is None:
        return None
    closest = study.best({method: study.mean(method, "correlation") for method in study.methods}) or best
    why = f"ECE {number(study.mean(best, 'ece'))}, correlation {number(study.mean(best, 'correlation'))}. "
    why += _against_control(study, best, "ECE", "ece")
    if closest != best:
        why += f" {closest} has the greatest correlation, {number(study.mean(closest, 'correlation'))}."
    return Answer("Is calibrated best", best, why)


def _balance(study: Comparison) -> Answer | None:
    both = {
        method: [study.mean(method, f"accuracy_{kind}/intersection") for kind in ("id", "none")]
        for method in study.methods
    }
    best = study.best({method: float(np.min(accuracies)) for method, accuracies in both.items()})
    if best is None:
        return None
    known, none = map(number, both[best])
    at = threshold(study.mean(best, "threshold/intersection"))
    why = (
        f'Known accuracy {known} and "none" accuracy {none} at the intersection threshold ({at} on average): the '
        "smaller of the two is greater than any other method's."
    )
    return Answer('Balances known and "none" best', best, why)


def _against_control(study: Comparison, method: str, name: str, metric: str) -> str:
    if method == study.control:
        return f"No other method has a better {name}."
    interval = study.intervals[method][metric]
    real = "a real difference" if interval.excludes_zero else "which may be chance"
    return f"{name} {_with_ends(interval)} against {study.control}: {real}."


def _with_ends(interval: Interval) -> str:
    low, high = number(interval.low, sign=True), number(interval.high, sign=True)
    return f"{number(interval.difference, sign=True)} (95 % interval {low} to {high})"

"""The answers that a reader looks for first: which method for ranking, for calibration, for balance."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from estitchup_pl.report.significance import Interval
from estitchup_pl.report.tables import StudyTables
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


def verdict(tables: StudyTables) -> list[Answer]:
    """Name the best method for ranking, for calibration and for balance, with the numbers."""
    return [_ranking(tables), _calibration(tables), _balance(tables)]


def _ranking(tables: StudyTables) -> Answer:
    best = _greatest(tables, lambda method: tables.mean(method, "aupr"))
    why = f"AUPR {number(tables.mean(best, 'aupr'))}, AUROC {number(tables.mean(best, 'auroc'))}. "
    return Answer("Ranks best", best, why + _against_control(tables, best, "AUPR", "aupr"))


def _calibration(tables: StudyTables) -> Answer:
    best = _greatest(tables, lambda method: -tables.mean(method, "ece"))
    closest = _greatest(tables, lambda method: tables.mean(method, "correlation"))
    why = f"ECE {number(tables.mean(best, 'ece'))}, correlation {number(tables.mean(best, 'correlation'))}. "
    why += _against_control(tables, best, "ECE", "ece")
    if closest != best:
        why += f" The greatest correlation has {closest}: {number(tables.mean(closest, 'correlation'))}."
    return Answer("Is calibrated best", best, why)


def _balance(tables: StudyTables) -> Answer:
    def both(method: str) -> tuple[float, float]:
        known, none = (tables.mean(method, f"accuracy_{kind}/intersection") for kind in ("id", "none"))
        return known, none

    best = _greatest(tables, lambda method: min(both(method)))
    known, none = both(best)
    at = threshold(tables.mean(best, "threshold/intersection"))
    why = (
        f'Known accuracy {number(known)} and "none" accuracy {number(none)} at the intersection threshold ({at} on '
        "average): the smaller of the two is greater than any other method's."
    )
    return Answer('Balances known and "none" best', best, why)


def _greatest(tables: StudyTables, score: Callable[[str], float]) -> str:
    def known(method: str) -> float:
        value = score(method)
        return value if math.isfinite(value) else -math.inf

    return max(tables.methods, key=known)


def _against_control(tables: StudyTables, method: str, name: str, metric: str) -> str:
    if method == tables.control:
        return f"No other method has a better {name}."
    interval = tables.intervals[method][metric]
    real = "a real difference" if interval.excludes_zero else "which may be chance"
    return f"{name} {_with_ends(interval)} against {tables.control}: {real}."


def _with_ends(interval: Interval) -> str:
    low, high = number(interval.low, sign=True), number(interval.high, sign=True)
    return f"{number(interval.difference, sign=True)} (95 % interval {low} to {high})"

"""The answers at the head of the page."""

from __future__ import annotations

import math

import numpy as np

from estitchup_pl.report.comparison import Comparison
from estitchup_pl.report.significance import Interval
from estitchup_pl.report.verdict import Answer, verdict

SCORES = {
    #              auroc aupr  ece   correlation known none threshold
    "Control": (0.91, 0.81, 0.30, 0.70, 0.90, 0.50, 0.99),
    "E-Mixup": (0.92, 0.85, 0.10, 0.80, 0.70, 0.71, 0.60),
    "E-Stitchup": (0.94, 0.83, 0.20, 0.95, 0.69, 0.99, 0.50),
}
NAMES = ("auroc", "aupr", "ece", "correlation")
AT_THRESHOLD = ("accuracy_id/intersection", "accuracy_none/intersection", "threshold/intersection")


def comparison(scores: dict[str, tuple[float, ...]], interval: Interval) -> Comparison:
    values = {
        method: dict(zip((*NAMES, *AT_THRESHOLD), map(np.atleast_1d, numbers), strict=True))
        for method, numbers in scores.items()
    }
    intervals = {method: dict.fromkeys(NAMES, interval) for method in scores if method != "Control"}
    chosen = {method: [{}] for method in scores}
    return Comparison("made", "Control", tuple(scores), (0,), {}, False, values, intervals, chosen)


def test_answers_name_the_best_method_and_the_numbers_that_say_so() -> None:
    study = comparison(SCORES, Interval(0.04, -0.01, 0.09))
    study.intervals["E-Mixup"]["ece"] = Interval(-0.2, -0.3, -0.1)
    assert verdict(study) == [
        Answer(
            "Ranks best",
            "E-Mixup",
            "AUPR 0.8500, AUROC 0.9200. AUPR +0.0400 (95 % interval -0.0100 to +0.0900) against Control: which may be "
            "chance.",
        ),
        Answer(
            "Is calibrated best",
            "E-Mixup",
            "ECE 0.1000, correlation 0.8000. ECE -0.2000 (95 % interval -0.3000 to -0.1000) against Control: a real "
            "difference. E-Stitchup has the greatest correlation, 0.9500.",
        ),
        Answer(
            'Balances known and "none" best',
            "E-Mixup",
            'Known accuracy 0.7000 and "none" accuracy 0.7100 at the intersection threshold (0.6000 on average): the '
            "smaller of the two is greater than any other method's.",
        ),
    ]


def test_the_control_can_be_best_and_is_compared_with_nothing() -> None:
    better = {**SCORES, "Control": (0.99, 0.99, 0.01, 0.99, 0.99, 0.99, 0.5)}
    ranking, calibration, balance = verdict(comparison(better, Interval(0, 0, 0)))
    assert {ranking.method, calibration.method, balance.method} == {"Control"}
    assert ranking.why == "AUPR 0.9900, AUROC 0.9900. No other method has a better AUPR."
    assert calibration.why == "ECE 0.0100, correlation 0.9900. No other method has a better ECE."


def test_what_no_method_has_is_not_answered_and_what_one_lacks_does_not_win() -> None:
    nothing = dict.fromkeys(SCORES, (math.nan,) * 7)
    assert verdict(comparison(nothing, Interval(math.nan, math.nan, math.nan))) == []
    partly = {**SCORES, "E-Mixup": (math.nan,) * 5 + (0.9, 0.5)}
    assert [answer.method for answer in verdict(comparison(partly, Interval(0, 0, 0)))] == ["E-Stitchup"] * 3


def test_ends_of_a_real_difference_lie_on_one_side_of_zero() -> None:
    ends = [(0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1), (0, 0.1), (-0.1, 0)]
    found = [replace_ends(low, high).excludes_zero for low, high in ends]
    assert found == [True, True, False, False, False]


def replace_ends(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high)

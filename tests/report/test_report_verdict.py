"""The answers at the head of the page."""

from __future__ import annotations

import math

import numpy as np

from estitchup_pl.report.comparison import Comparison
from estitchup_pl.report.significance import Interval
from estitchup_pl.report.verdict import Answer, verdict

SCORES = {
    #              auroc aupr  none  ece   correlation known none threshold
    "Control": (0.91, 0.81, 0.80, 0.30, 0.70, 0.90, 0.50, 0.99),
    "E-Mixup": (0.92, 0.85, 0.93, 0.10, 0.80, 0.70, 0.75, 0.60),
    "E-Stitchup": (0.94, 0.83, 0.95, 0.20, 0.95, 0.69, 0.99, 0.50),
}
NOTHING = Interval(0, 0, 0)
NAMES = ("auroc", "aupr", "none_auroc", "ece", "correlation")
AT_THRESHOLD = ("accuracy_id/intersection", "accuracy_none/intersection", "threshold/intersection")


def comparison(scores: dict[str, tuple[float, ...]], interval: Interval, none_rows: int = 40) -> Comparison:
    values = {
        method: dict(zip((*NAMES, *AT_THRESHOLD), map(np.atleast_1d, numbers), strict=True))
        | {"none_rows": np.array([float(none_rows)])}
        for method, numbers in scores.items()
    }
    intervals = {method: dict.fromkeys(NAMES, interval) for method in scores if method != "Control"}
    chosen = {method: [{}] for method in scores}
    return Comparison("made", "Control", tuple(scores), (0,), {}, False, values, intervals, chosen)


def test_answers_name_the_best_method_and_the_numbers_that_say_so() -> None:
    study = comparison(SCORES, Interval(0.04, -0.01, 0.09))
    study.intervals["E-Mixup"]["ece"] = Interval(-0.2, -0.3, -0.1)
    study.intervals["E-Stitchup"]["correlation"] = Interval(0.25, 0.1, 0.3)
    study.intervals["E-Stitchup"]["none_auroc"] = Interval(0.15, 0.12, 0.18)
    assert verdict(study) == [
        Answer(
            "Ranks best",
            "E-Mixup",
            "AUPR 0.8500, AUROC 0.9200. AUPR +0.0400 (95 % interval -0.0100 to +0.0900) against Control, which may be "
            "chance.",
        ),
        Answer(
            "Is calibrated best",
            "E-Mixup",
            "ECE 0.1000, correlation 0.8000. ECE -0.2000 (95 % interval -0.3000 to -0.1000) against Control: a real "
            "difference. E-Stitchup has the greatest correlation, 0.9500. Correlation +0.2500 (95 % interval +0.1000 "
            "to +0.3000) against Control: a real difference.",
        ),
        Answer(
            'Tells "none" best',
            "E-Stitchup",
            "None AUROC 0.9500. None AUROC +0.1500 (95 % interval +0.1200 to +0.1800) against Control: a real "
            'difference. At the intersection threshold (0.5000 on average) "none" accuracy is 0.9900, known accuracy '
            "0.6900.",
        ),
    ]


def test_few_none_rows_are_said_with_an_interval_at_the_number() -> None:
    *_, none = verdict(comparison({**SCORES, "E-Stitchup": (*SCORES["E-Stitchup"][:6], 10 / 13, 0.5)}, NOTHING, 13))
    assert '"none" accuracy is 0.7692 [0.50, 0.92] of 13 rows, known' in none.why


def test_the_control_can_be_best_and_is_compared_with_what_comes_next() -> None:
    better = {**SCORES, "Control": (0.99, 0.99, 0.99, 0.01, 0.99, 0.99, 0.99, 0.5)}
    study = comparison(better, Interval(-0.1, -0.2, -0.05))
    study.intervals["E-Mixup"]["ece"] = Interval(0.09, -0.01, 0.1)
    ranking, calibration, none = verdict(study)
    assert {ranking.method, calibration.method, none.method} == {"Control"}
    said = "AUPR 0.9900, AUROC 0.9900. Next is E-Mixup, AUPR -0.1000 (95 % interval -0.2000 to -0.0500): a real"
    assert ranking.why == f"{said} difference."
    said = "ECE 0.0100, correlation 0.9900. Next is E-Mixup, ECE +0.0900 (95 % interval -0.0100 to +0.1000)"
    assert calibration.why == f"{said}, which may be chance."
    assert none.why.startswith("None AUROC 0.9900. Next is E-Stitchup, None AUROC -0.1000 (95 % interval -0.2000")


def test_what_no_method_has_is_not_answered_and_what_one_lacks_does_not_win() -> None:
    nothing = dict.fromkeys(SCORES, (math.nan,) * 8)
    assert verdict(comparison(nothing, Interval(math.nan, math.nan, math.nan))) == []
    partly = {**SCORES, "E-Mixup": (math.nan,) * 6 + (0.9, 0.5)}
    assert [answer.method for answer in verdict(comparison(partly, NOTHING))] == ["E-Stitchup"] * 3
    without_none = {method: (*numbers[:2], math.nan, *numbers[3:]) for method, numbers in SCORES.items()}
    assert [answer.question for answer in verdict(comparison(without_none, NOTHING))] == [
        "Ranks best",
        "Is calibrated best",
    ]
    assert verdict(comparison({"Control": SCORES["Control"]}, NOTHING)) == []


def test_ends_of_a_real_difference_lie_on_one_side_of_zero() -> None:
    ends = [(0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1), (0, 0.1), (-0.1, 0)]
    found = [replace_ends(low, high).excludes_zero for low, high in ends]
    assert found == [True, True, False, False, False]


def replace_ends(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high)

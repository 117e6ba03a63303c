"""Rules as classes: what a metric and a YAML file name."""

from __future__ import annotations

import pytest
import torch

from estitchup_pl import functional, thresholds
from estitchup_pl.errors import ConfigError
from estitchup_pl.metrics import ConfidenceThreshold

RULES = {
    "intersection": (thresholds.PaperHeuristic(), functional.select_threshold, {}),
    "tp_ratio": (thresholds.PaperHeuristic("tp_ratio"), functional.select_threshold, {"heuristic": "tp_ratio"}),
    "cost": (
        thresholds.LeastCost(2, 3, 0.1, none_share=0.6),
        functional.least_cost_threshold,
        {"wrong_class": 2, "missed_none": 3, "question": 0.1, "none_share": 0.6},
    ),
    "bound": (
        thresholds.BoundedError(0.2, 0.8, known_only=True),
        functional.bounded_error_threshold,
        {"error": 0.2, "confidence": 0.8, "known_only": True},
    ),
    "coverage": (
        thresholds.Coverage(0.7, known_only=False),
        functional.coverage_threshold,
        {"coverage": 0.7, "known_only": False},
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_its_function_and_a_metric_takes_it(name):
    rule, function, options = RULES[name]
    source = torch.Generator().manual_seed(0)
    preds, scores = torch.rand(300, 3, generator=source), torch.rand(300, generator=source)
    wrong = torch.rand(300, generator=source) < scores
    labels = torch.where(wrong, torch.randint(-1, 3, (300,), generator=source), preds.argmax(1))
    metric = ConfidenceThreshold(rule)
    metric.update(preds, labels, none_scores=scores)
    expected = function(functional.acceptance(preds, scores), preds.argmax(1), labels, **options)
    assert torch.equal(metric.compute(), expected)
    assert 0 < float(expected) < 1
    defaults = function(functional.acceptance(preds, scores), preds.argmax(1), labels)
    assert options == {} or not torch.equal(expected, defaults)


def test_a_rule_says_whether_it_needs_none_rows():
    needs = {name: rule.needs_none for name, (rule, *_) in RULES.items()}
    assert needs == {"intersection": True, "tp_ratio": True, "cost": True, "bound": False, "coverage": True}
    assert thresholds.BoundedError().needs_none
    assert not thresholds.Coverage().needs_none


def test_a_name_is_one_of_the_papers():
    assert thresholds.threshold_rule("tp_ratio").name == "tp_ratio"
    rule = thresholds.Coverage()
    assert thresholds.threshold_rule(rule) is rule
    with pytest.raises(ConfigError, match="heuristic: expected one of intersection, tp_ratio, got 'median'"):
        ConfidenceThreshold("median")


def test_a_metric_knows_how_far_its_threshold_can_be_trusted():
    source = torch.Generator().manual_seed(0)
    preds, labels = torch.rand(80, 2, generator=source), torch.randint(-1, 2, (80,), generator=source)
    classes, rows = torch.randint(5, 9, (200,), generator=source), torch.randperm(200, generator=source)[:80]
    metric = ConfidenceThreshold()
    metric.update(preds, labels, rows)
    expected = functional.threshold_interval(
        functional.select_threshold, *preds.max(dim=1), labels, classes[rows], resamples=50
    )
    found = metric.interval(classes, resamples=50)
    assert found.none_rows == expected.none_rows == int((labels == -1).sum())
    assert found.none_classes == 4
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.15)  # rows in another order

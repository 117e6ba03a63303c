"""Selective risk, detection of "none" and the weighted correlation: where their definitions could differ."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss
from torch import Tensor

from estitchup_pl.errors import DataError
from estitchup_pl.functional import (
    accepted_accuracy,
    brier_score,
    confidence_accuracy_correlation,
    negative_log_likelihood,
    none_detection,
    none_score,
    risk_areas,
    risk_coverage,
    top_label,
)


def draw() -> tuple[Tensor, Tensor]:
    source = np.random.default_rng(0)
    probabilities = source.random((200, 4)).astype(np.float32)
    labels = source.integers(-1, 4, 200)
    right = source.random(200) < probabilities.max(1)
    labels = np.where(source.random(200) < 0.2, -1, np.where(right, probabilities.argmax(1), labels))
    return torch.from_numpy(probabilities), torch.from_numpy(labels)


def test_equals_torch_uncertainty():
    """Its 0.13.0 on :func:`draw`, "none" rows being errors: ``AURC``, ``AUGRC`` and ``FPR95(pos_label=1)``."""
    probabilities, labels = draw()
    areas = risk_areas(*top_label(probabilities, labels))
    assert float(areas.aurc) == pytest.approx(0.2472317666, abs=1e-6)
    assert float(areas.augrc) == pytest.approx(0.1278015077, abs=1e-6)
    assert float(none_detection(none_score(probabilities), labels).fpr95) == pytest.approx(0.9466666579, abs=1e-6)


def test_ties_are_the_mean_over_all_orders():
    acceptance, correct = torch.tensor([0.9, 0.5, 0.5, 0.5, 0.1]), torch.tensor([True, False, True, False, True])
    broken = [risk_areas(torch.tensor([0.9, *order, 0.1]), correct) for order in permutations([0.4, 0.5, 0.6])]
    for found, each in zip(risk_areas(acceptance, correct), zip(*broken, strict=True), strict=True):
        assert float(found) == pytest.approx(float(torch.stack(each).mean()))


def test_the_surest_rows_decide_less_in_augrc():
    """One error at the very top: half of AURC's worst case, hardly anything of AUGRC."""
    acceptance = torch.linspace(1, 0, 101)
    first_wrong = torch.arange(101) > 0
    areas = risk_areas(acceptance, first_wrong)
    assert float(areas.augrc) == pytest.approx(1 / 101)
    assert float(areas.aurc) > 4 / 101


def test_the_curve_ends_with_the_error_of_all_rows():
    probabilities, labels = draw()
    confidence, correct = top_label(probabilities, labels)
    curve = risk_coverage(confidence, correct)
    assert float(curve.coverage[-1]) == 1
    assert float(curve.risk[-1]) == pytest.approx(float((~correct).double().mean()))


def test_a_threshold_lets_through_what_exceeds_it():
    acceptance, correct = torch.tensor([0.5, 0.5000001, 0.9]), torch.tensor([True, False, True])
    assert [float(value) for value in accepted_accuracy(acceptance, correct, 0.5)] == pytest.approx([0.5, 2 / 3])
    accuracy, coverage = accepted_accuracy(acceptance, correct, 1.0)
    assert math.isnan(accuracy)
    assert coverage == 0


def test_19_of_20_are_95_percent():
    none, known = torch.linspace(0.5, 0.9, 20), torch.tensor([0.1, 0.505, 0.6])
    labels = torch.tensor([-1] * 20 + [0] * 3)
    # The lowest "none" row, at 0.5, need not be found: of the known ones only the one at 0.6 is in the way.
    assert float(none_detection(torch.cat([none, known]), labels).fpr95) == pytest.approx(1 / 3)


def test_proper_scores_are_scikit_learns_where_rows_sum_to_one():
    probabilities = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).double().softmax(dim=1)
    labels = torch.arange(50) % 3
    expected = brier_score_loss(labels.numpy(), probabilities.numpy(), scale_by_half=False)
    assert float(brier_score(probabilities, labels)) == pytest.approx(expected)
    questions = sum(log_loss((labels == k).numpy(), probabilities[:, k].numpy()) for k in range(3))
    assert float(negative_log_likelihood(probabilities, labels)) == pytest.approx(questions)


def test_being_sure_and_wrong_costs_much_but_not_everything():
    assert float(negative_log_likelihood(torch.tensor([[1.0]]), torch.tensor([0]))) < 1e-6
    assert 15 < float(negative_log_likelihood(torch.tensor([[0.0]]), torch.tensor([0]))) < 17


def test_a_single_row_cannot_decide_the_weighted_correlation():
    """Nine bins on the diagonal, and one row at 0.05 that is right."""
    confidence = torch.cat([torch.full((1000,), (k + 0.5) / 10) for k in range(1, 10)] + [torch.tensor([0.05])])
    correct = torch.cat([torch.arange(1000) < 1000 * (k + 0.5) / 10 for k in range(1, 10)] + [torch.tensor([True])])
    assert float(confidence_accuracy_correlation(confidence, correct)) < 0.6
    assert float(confidence_accuracy_correlation(confidence, correct, weighted=True)) > 0.99


@pytest.mark.parametrize("function", [risk_areas, risk_coverage])
def test_refuses_what_is_no_decision(function):
    with pytest.raises(DataError, match=r"acceptance: expected values from 0 to 1, got 2\.0"):
        function(torch.tensor([2.0]), torch.tensor([True]))
    with pytest.raises(DataError, match="expected numbers and bools of equal shape"):
        function(torch.tensor([0.5]), torch.tensor([1]))

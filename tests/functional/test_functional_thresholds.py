"""Thresholds by cost, by a bound that holds, by coverage; their intervals over unknown classes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.functional import (
    bounded_error_threshold,
    coverage_threshold,
    least_cost_threshold,
    select_threshold,
    threshold_interval,
)


def draw(rows: int, seed: int, none_share: float = 0.2) -> tuple[Tensor, Tensor, Tensor]:
    """Rows whose chance to be right is their acceptance; a known one is given the class 1 where it is wrong."""
    source = torch.Generator().manual_seed(seed)
    acceptance = torch.rand(rows, generator=source) ** 0.25
    right = torch.rand(rows, generator=source) < acceptance
    labels = torch.where(right, 0, torch.where(torch.rand(rows, generator=source) < none_share, -1, 1))
    return acceptance, torch.zeros(rows, dtype=torch.int64), labels


def error_above(threshold: float) -> float:
    """Share of wrong rows among those above a threshold: 1 - E[a | a > t] with a = u ** 0.25."""
    return 1 - 0.8 * (1 - threshold**5) / (1 - threshold**4)


class TestBoundedError:
    @pytest.mark.parametrize(("rows", "error"), [(200, 0.1), (1000, 0.1), (1000, 0.05)])
    def test_the_bound_holds_as_often_as_it_says_and_accepts_as_much_as_it_can(self, rows, error):
        """400 draws of which 10 % may fail: with the sampling error of 400 draws at most 14 %."""
        thresholds = [
            float(bounded_error_threshold(*draw(rows, seed), error=error, confidence=0.9)) for seed in range(400)
        ]
        broken = [threshold for threshold in thresholds if threshold < 1 and error_above(threshold) > error]
        assert len(broken) <= 56
        accepted = sum(1 - threshold**4 for threshold in thresholds) / 400
        possible = max(1 - (step / 1000) ** 4 for step in range(1000) if error_above(step / 1000) <= error)
        assert accepted > {(200, 0.1): 0.3, (1000, 0.1): 0.75, (1000, 0.05): 0.4}[rows, error] * possible

    def test_the_naive_choice_breaks_the_bound_half_of_the_time(self):
        """The simulation can tell: the greatest coverage whose error on the rows is below the bound is no bound."""
        broken = 0
        for seed in range(100):
            acceptance, _, labels = draw(1000, seed)
            order = acceptance.argsort(descending=True)
            wrong = (labels[order] != 0).cumsum(0) / torch.arange(1, 1001)
            broken += error_above(float(acceptance[order][(wrong <= 0.1).nonzero()[-1]])) > 0.1
        assert broken > 30

    def test_known_only_looks_at_no_none_row(self):
        acceptance, predicted, labels = draw(1000, 0)
        without = labels != -1
        expected = bounded_error_threshold(acceptance[without], predicted[without], labels[without], error=0.1)
        found = bounded_error_threshold(acceptance, predicted, labels, error=0.1, known_only=True)
        assert found == expected
        assert found < bounded_error_threshold(acceptance, predicted, labels, error=0.1)

    def test_accepts_nothing_where_nothing_can_be_vouched_for(self):
        few = torch.full((20,), 0.9), torch.zeros(20).long(), torch.zeros(20).long()
        assert float(bounded_error_threshold(*few)) == 1
        for rows, threshold in ((58, 1.0), (59, 0.45)):
            same = torch.full((rows,), 0.9), torch.zeros(rows).long(), torch.zeros(rows).long()
            assert float(bounded_error_threshold(*same)) == pytest.approx(threshold)

    @pytest.mark.parametrize("options", [{"error": 0.0}, {"error": 1.0}, {"confidence": 1.0}])
    def test_refuses_what_is_no_share(self, options):
        with pytest.raises(ConfigError, match="expected a share between 0 and 1"):
            bounded_error_threshold(*draw(10, 0), **options)


class TestLeastCost:
    def test_a_dear_none_raises_the_threshold_and_a_dear_question_lowers_it(self):
        rows = draw(500, 1)
        plain = least_cost_threshold(*rows)
        assert least_cost_threshold(*rows, missed_none=10) > plain
        assert least_cost_threshold(*rows, question=0.5) < plain
        assert least_cost_threshold(*rows, none_share=0.5) > plain  # of the rows there are 4 %

    def test_free_questions_ask_for_everything_that_may_be_wrong(self):
        acceptance, predicted, labels = torch.tensor([0.9, 0.8, 0.4]), torch.zeros(3).long(), torch.tensor([0, 1, 0])
        assert 0.8 <= float(least_cost_threshold(acceptance, predicted, labels, question=0)) < 0.9

    @pytest.mark.parametrize("options", [{"wrong_class": -1.0}, {"question": float("nan")}, {"none_share": 1.0}])
    def test_refuses_what_is_no_cost(self, options):
        with pytest.raises(ConfigError, match=f"{next(iter(options))}: expected a"):
            least_cost_threshold(*draw(10, 0), **options)

    def test_refuses_rows_that_cannot_say(self):
        none = torch.tensor([], dtype=torch.int64)
        with pytest.raises(DataError, match="no row to choose a threshold on"):
            least_cost_threshold(none.float(), none, none)
        with pytest.raises(DataError, match='none_share: needs "none" rows and others, got 0 and 1'):
            least_cost_threshold(torch.tensor([0.5]), torch.tensor([0]), torch.tensor([0]), none_share=0.1)


class TestCoverage:
    def test_counts_known_rows_or_all(self):
        acceptance, labels = torch.tensor([0.9, 0.7, 0.5, 0.3, 0.2]), torch.tensor([0, -1, 1, 0, -1])
        predicted = torch.zeros(5, dtype=torch.int64)
        assert 0.3 <= float(coverage_threshold(acceptance, predicted, labels, 0.66)) < 0.5
        assert 0.5 <= float(coverage_threshold(acceptance, predicted, labels, 0.4, known_only=False)) < 0.7

    def test_refuses_what_cannot_be(self):
        with pytest.raises(ConfigError, match="coverage: expected a share above 0"):
            coverage_threshold(*draw(10, 0), coverage=0.0)
        with pytest.raises(DataError, match="no row of a known class"):
            coverage_threshold(torch.tensor([0.5]), torch.tensor([0]), torch.tensor([-1]))


class TestInterval:
    def test_holds_unknown_classes_together(self):
        """Rows of a class are alike: drawn one by one they would seem ten times as many as they are."""
        source = torch.Generator().manual_seed(0)
        centres = torch.rand(6, generator=source)
        groups = torch.arange(6).repeat_interleave(50)
        none = (centres[groups] + 0.01 * torch.randn(300, generator=source)).clamp(0, 1)
        acceptance = torch.cat([0.5 + torch.rand(300, generator=source) / 2, none])
        labels = torch.tensor([0] * 300 + [-1] * 300)
        rows = acceptance, torch.zeros(600, dtype=torch.int64), labels
        by_class = threshold_interval(select_threshold, *rows, torch.cat([groups, groups]))
        by_row = threshold_interval(select_threshold, *rows, torch.arange(600))
        assert (by_class.none_rows, by_class.none_classes, by_row.none_classes) == (300, 6, 300)
        assert by_class.high - by_class.low > 3 * (by_row.high - by_row.low) > 0
        assert by_class.low <= float(select_threshold(*rows)) <= by_class.high

    def test_says_when_it_rests_on_few_rows(self):
        for rows, few in ((29, True), (30, False)):
            labels = torch.tensor([0] * 5 + [-1] * rows)
            acceptance = torch.linspace(0.9, 0.1, 5 + rows)
            found = threshold_interval(select_threshold, acceptance, torch.zeros_like(labels), labels, labels, 3)
            assert found.rests_on_few is few

    def test_refuses_what_cannot_be(self):
        rows = draw(10, 0)
        with pytest.raises(DataError, match=r"groups: expected one a row, \(10,\), got \(3,\)"):
            threshold_interval(select_threshold, *rows, torch.zeros(3))
        with pytest.raises(ConfigError, match="at least one resample"):
            threshold_interval(select_threshold, *rows, torch.zeros(10), resamples=0)

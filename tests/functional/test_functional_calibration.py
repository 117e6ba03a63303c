"""Calibration measures at the edges of bins, without rows, and against torchmetrics where that is right."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.functional import (
    adaptive_calibration_error,
    classwise_calibration_error,
    confidence_accuracy_correlation,
    expected_calibration_error,
    reliability_bins,
    top_label,
)

TOP_LABEL_MEASURES = (
    expected_calibration_error,
    adaptive_calibration_error,
    confidence_accuracy_correlation,
)
bin_numbers = st.sampled_from([1, 2, 3, 10, 15])
# Eighths lie on the edges of 2, 4 and 8 bins and are exact in binary.
rows_on_edges = st.lists(st.tuples(st.integers(0, 8).map(lambda k: k / 8), st.booleans()), min_size=1, max_size=20)


def columns(rows: list[tuple[float, bool]]) -> tuple[Tensor, Tensor]:
    confidence, correct = zip(*rows, strict=True)
    return torch.tensor(confidence), torch.tensor(correct)


def draw_rows(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    confidence = torch.rand(shape, generator=source)
    return confidence, torch.rand(shape, generator=source) < confidence**2


class TestReliabilityBins:
    @pytest.mark.parametrize("num_bins", [10, 15])
    @pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
    def test_both_ends_belong_to_the_outer_bins(self, num_bins, dtype):
        confidence = torch.tensor([0.0, 1.0], dtype=dtype)
        counts = reliability_bins(confidence, torch.tensor([True, True]), num_bins).counts
        assert counts.tolist() == [1] + [0] * (num_bins - 2) + [1]

    def test_decimal_edges_open_their_bin(self):
        """Edge k / 10 in float32 is the very confidence k / 10 in float32."""
        confidence = torch.arange(10) / torch.tensor(10.0)
        assert reliability_bins(confidence, torch.ones(10, dtype=torch.bool)).counts.tolist() == [1] * 10

    def test_no_rows_give_empty_bins(self):
        bins = reliability_bins(torch.empty(0), torch.empty(0, dtype=torch.bool))
        assert bins.counts.tolist() == [0] * 10
        assert bool(bins.accuracy.isnan().all())


class TestExpectedCalibrationError:
    @pytest.mark.parametrize("num_bins", [10, 15])
    def test_equals_torchmetrics_where_no_confidence_is_one(self, num_bins):
        probabilities = torch.randn(500, 5, generator=torch.Generator().manual_seed(0)).softmax(-1)
        labels = torch.randint(0, 5, (500,), generator=torch.Generator().manual_seed(1))
        expected = multiclass_calibration_error(probabilities, labels, 5, n_bins=num_bins, norm="l1")
        got = expected_calibration_error(*top_label(probabilities, labels), num_bins=num_bins)
        torch.testing.assert_close(got.float(), expected)

    def test_confidence_of_one_shares_the_last_bin(self):
        """A bin of its own would give 0.525."""
        got = expected_calibration_error(torch.tensor([0.95, 1.0]), torch.tensor([True, False]), num_bins=10)
        assert float(got) == pytest.approx(0.475)


class TestAdaptiveCalibrationError:
    def test_equal_confidences_share_a_bin(self):
        confidence, correct = torch.full((6,), 0.5), torch.tensor([True, True, True, False, False, False])
        assert float(adaptive_calibration_error(confidence, correct, num_bins=2)) == 0

    def test_equal_confidences_go_where_most_of_them_belong(self):
        confidence = torch.tensor([0.1, 0.5, 0.5, 0.5, 0.5, 0.5])
        correct = torch.tensor([True, False, False, False, False, False])
        expected = (0.9 + 5 * 0.5) / 6  # two bins; in one, the errors would cancel to 1.6 / 6
        assert float(adaptive_calibration_error(confidence, correct, num_bins=2)) == pytest.approx(expected)


class TestClasswiseCalibrationError:
    def test_none_rows_answer_no_to_every_class(self):
        got = classwise_calibration_error(torch.tensor([[0.25, 0.5]]), torch.tensor([-1]))
        assert got.tolist() == [0.25, 0.5]


class TestCorrelation:
    def test_is_undefined_with_fewer_than_two_bins(self):
        for rows in (0, 1, 5):
            correct = torch.arange(rows) % 2 == 0
            assert math.isnan(confidence_accuracy_correlation(torch.full((rows,), 0.5), correct))

    def test_is_undefined_where_accuracy_never_varies(self):
        """Three bins at an accuracy of one tenth: the mean of three rounded tenths is not a tenth."""
        confidence = torch.tensor([0.05, 0.15, 0.25]).repeat_interleave(10)
        correct = torch.arange(30) % 10 == 0
        assert math.isnan(confidence_accuracy_correlation(confidence, correct))


class TestTopLabel:
    def test_is_right_only_for_the_label(self):
        probabilities = torch.tensor([[0.2, 0.7], [0.6, 0.1], [0.9, 0.3]])
        confidence, correct = top_label(probabilities, torch.tensor([1, 1, -1]))
        assert torch.equal(confidence, probabilities.amax(-1))
        assert correct.tolist() == [True, False, False]

    @pytest.mark.parametrize(
        ("probabilities", "labels", "message"),
        [
            ([[0.5, 1.5]], [0], r"probabilities: expected values from 0 to 1, got 1.5 at index \(0, 1\)"),
            ([[0.5, -2.0]], [0], "got -2.0 .*not logits"),
            ([[0.5, math.nan]], [0], "got nan .*the model has diverged"),
            ([[0.5, 0.5]], [2], r"labels: expected -1 for \"none\" or a class index below 2, got 2 at index \(0,\)"),
            ([[0.5, 0.5]], [-2], "got -2"),
            ([[0.5, 0.5]], [0, 1], r"got \(1, 2\) and \(2,\)"),
            ([0.5, 0.5], [], r"probabilities \(rows, classes\)"),
            ([[[0.5, 0.5]]], [[0]], "each run of a stack by itself"),
            ([[], []], [-1, -1], "at least one class"),
        ],
    )
    def test_refuses_what_are_no_predictions(self, probabilities, labels, message):
        with pytest.raises(DataError, match=message):
            top_label(torch.tensor(probabilities), torch.tensor(labels, dtype=torch.int64))

    def test_refuses_wrong_types(self):
        with pytest.raises(DataError, match=r"expected floating point values, got torch\.int64"):
            top_label(torch.tensor([[1, 0]]), torch.tensor([0]))
        with pytest.raises(DataError, match=r"expected int64 class indices, got torch\.int32"):
            top_label(torch.tensor([[1.0, 0.0]]), torch.tensor([0], dtype=torch.int32))


@pytest.mark.parametrize("measure", TOP_LABEL_MEASURES)
class TestAllTopLabelMeasures:
    @given(rows=rows_on_edges, seed=st.integers(0, 2**32), num_bins=bin_numbers)
    def test_order_of_rows_has_no_influence(self, measure, rows, seed, num_bins):
        confidence, correct = columns(rows)
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(
            measure(confidence, correct, num_bins), measure(confidence[order], correct[order], num_bins), equal_nan=True
        )

    def test_is_nan_without_rows(self, measure):
        assert math.isnan(measure(torch.empty(0), torch.empty(0, dtype=torch.bool)))

    def test_refuses_no_bins_and_uneven_rows(self, measure):
        confidence, correct = draw_rows(4)
        with pytest.raises(ConfigError, match="num_bins: expected at least 1, got 0"):
            measure(confidence, correct, 0)
        with pytest.raises(DataError, match="two equal shapes"):
            measure(confidence, correct[:-1])

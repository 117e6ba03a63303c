"""Rejection and both threshold heuristics: ties, neighbouring floats, both ends, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.functional import (
    HEURISTICS,
    none_score,
    reject,
    select_threshold,
    threshold_curves,
)

# A row: confidence, predicted class, label. Few distinct confidences, so that ties abound, and both ends of the range.
rows_with_ties = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.50000006, 0.7, 0.99999994, 1.0]),
        st.integers(0, 2),
        st.integers(-1, 2),
    ),
    min_size=2,
    max_size=14,
).filter(lambda rows: {label < 0 for *_, label in rows} == {True, False})


def columns(rows: list[tuple[float, int, int]]) -> tuple[Tensor, Tensor, Tensor]:
    confidence, predicted, labels = zip(*rows, strict=True)
    return torch.tensor(confidence), torch.tensor(predicted), torch.tensor(labels)


def test_threshold_lies_midway_between_the_neighbours():
    confidence, predicted = torch.tensor([0.9, 0.7, 0.3, 0.1]), torch.tensor([0, 1, 0, 1])
    labels = torch.tensor([0, 1, -1, -1])
    for heuristic in HEURISTICS:
        assert float(select_threshold(confidence, predicted, labels, heuristic)) == pytest.approx(0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_threshold_between_adjacent_floats_still_parts_them(dtype):
    """Midway between neighbours rounds onto one of them; it must never be the upper one."""
    for start in (0.5, 0.1, 0.9):
        low = torch.tensor(start, dtype=dtype)
        for _ in range(4):
            high = torch.nextafter(low, torch.tensor(1, dtype=dtype))
            confidence = torch.stack([low, high])
            threshold = select_threshold(confidence, torch.tensor([0, 0]), torch.tensor([-1, 0]))
            assert (confidence > threshold).tolist() == [False, True]
            low = high


def test_perfect_separation_has_an_infinite_ratio_and_wins():
    confidence, labels = torch.tensor([0.2, 0.4, 0.6, 0.8, 0.9]), torch.tensor([-1, -1, 0, 0, 1])
    predicted = torch.tensor([0, 1, 0, 1, 1])  # one row of a known class is wrong at any threshold
    threshold = select_threshold(confidence, predicted, labels, "tp_ratio")
    assert float(threshold) == pytest.approx(0.5)
    curves = threshold_curves(confidence, predicted, labels, threshold[None])
    assert curves.ratio_none.tolist() == [math.inf]
    assert curves.ratio_id.tolist() == [1.0]


def test_everything_can_be_rejected_even_at_confidence_one():
    """All known rows are predicted wrongly: only rejecting all rows brings the accuracies closest."""
    confidence, labels = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([-1, -1, 0])
    assert float(select_threshold(confidence, torch.tensor([1, 1, 0]), labels, "tp_ratio")) == 1.0


def test_rejecting_everything_puts_the_threshold_midway_to_one():
    confidence, labels = torch.tensor([0.5, 0.25]), torch.tensor([-1, 0])
    assert float(select_threshold(confidence, torch.tensor([0, 1]), labels, "tp_ratio")) == 0.75


@given(rows=rows_with_ties, seed=st.integers(0, 2**32))
def test_order_of_rows_has_no_influence(rows, seed):
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    confidence, predicted, labels = columns(rows)
    for heuristic in HEURISTICS:
        assert torch.equal(
            select_threshold(confidence, predicted, labels, heuristic),
            select_threshold(confidence[order], predicted[order], labels[order], heuristic),
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_curves_are_drawn_on_a_hundredth_grid_by_default(dtype):
    curves = threshold_curves(torch.tensor([0.5], dtype=dtype), torch.tensor([0]), torch.tensor([0]))
    assert torch.equal(curves.thresholds, torch.tensor([step / 100 for step in range(101)], dtype=dtype))
    assert bool(curves.accuracy_none.isnan().all())


@pytest.mark.parametrize(("labels", "kind"), [([0, 1], '"none"'), ([-1, -1], "in-distribution")])
def test_refuses_rows_of_one_kind(labels, kind):
    with pytest.raises(DataError, match=f"no {kind} row among the 2 rows.*validation needs held-out classes"):
        select_threshold(torch.tensor([0.4, 0.5]), torch.tensor([0, 1]), torch.tensor(labels))


def test_refuses_no_rows_at_all():
    empty = torch.tensor([], dtype=torch.int64)
    with pytest.raises(DataError, match="among the 0 rows"):
        select_threshold(empty.float(), empty, empty)


def test_refuses_an_unknown_heuristic():
    with pytest.raises(ConfigError, match="heuristic: expected one of intersection, tp_ratio, got 'crossing'"):
        select_threshold(torch.tensor([0.4, 0.5]), torch.tensor([0, 1]), torch.tensor([0, -1]), "crossing")


@pytest.mark.parametrize(
    ("confidence", "message"),
    [
        ([0.5, math.nan], r"confidence: expected values from 0 to 1, got nan at index \(1,\)"),
        ([0.5, 3.0], r"got 3.0 at index \(1,\); pass the outputs of a sigmoid or softmax, not logits"),
        ([0.5], "three equal shapes"),
    ],
)
def test_refuses_what_is_no_confidence(confidence, message):
    with pytest.raises(DataError, match=message):
        select_threshold(torch.tensor(confidence), torch.tensor([0, 1]), torch.tensor([0, -1]))


def test_a_prediction_is_valid_only_above_the_threshold():
    probabilities = torch.tensor([[0.2, 0.5], [0.2, 0.5000001], [0.9, 0.8], [0.0, 0.0]])
    assert reject(probabilities, 0.5).tolist() == [-1, 1, 0, -1]
    assert reject(probabilities, torch.tensor(0.5)).dtype == torch.int64


def test_none_score_is_one_less_the_greatest_probability():
    torch.testing.assert_close(none_score(torch.tensor([[0.2, 0.7], [0.0, 0.1]])), torch.tensor([0.3, 0.9]))

"""Exact AUROC and AUPR against scikit-learn, class by class."""

from __future__ import annotations

import math

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from estitchup_pl.errors import DataError
from estitchup_pl.functional import (
    ranking_scores,
    support_weighted_mean,
    weighted_aupr,
    weighted_auroc,
    weighted_auroc_aupr,
)

# Eighths: ties abound, the ends of the range are among them, and one minus a score is exact.
tied_predictions = st.integers(1, 6).flatmap(
    lambda classes: st.lists(
        st.tuples(
            st.lists(st.integers(0, 8).map(lambda k: k / 8), min_size=classes, max_size=classes),
            st.integers(-1, classes - 1),
        ),
        min_size=1,
        max_size=25,
    )
)


def tensors(rows: list[tuple[list[float], int]], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return torch.tensor([scores for scores, _ in rows], dtype=dtype), torch.tensor([label for _, label in rows])


def draw_predictions(*shape: int, classes: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, classes, shape, generator=source)
    logits = torch.randn(*shape, classes, generator=source) * 2 - 3
    logits = logits + 3 * torch.nn.functional.one_hot(labels.clamp(min=0), classes) * (labels >= 0).unsqueeze(-1)
    return logits.sigmoid(), labels


@given(rows=tied_predictions, dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]))
@settings(max_examples=40)
def test_every_class_equals_sklearn(rows, dtype):
    probabilities, labels = tensors(rows, dtype)
    scores = ranking_scores(probabilities, labels)
    expected = oracles.ranking_scores(probabilities.double().numpy(), labels.numpy())
    for got, wanted in zip(scores, expected, strict=True):
        assert got.tolist() == pytest.approx(wanted.tolist(), nan_ok=True)


@pytest.mark.parametrize("rows", [500, 20_000])
def test_equals_sklearn_at_sizes_that_are_sorted_in_another_way(rows):
    """One-dimensional integers beyond 32,768 go to a radix sort on CPUs."""
    probabilities, labels = draw_predictions(rows)
    scores = ranking_scores(probabilities, labels)
    expected = oracles.ranking_scores(probabilities.double().numpy(), labels.numpy())
    for got, wanted in zip(scores, expected, strict=True):
        assert got.tolist() == pytest.approx(wanted.tolist(), abs=1e-12)


def test_an_absent_class_is_left_out_not_counted_as_zero():
    probabilities, labels = draw_predictions(100)
    present = labels.where(labels != 2, 1)
    kept = [column for column in range(6) if column != 2]
    relabelled = torch.where(present > 2, present - 1, present)
    # The absent column may still be the greatest, so "none" is scored with it: known rows only here.
    known = present >= 0
    for score in (weighted_auroc, weighted_aupr):
        torch.testing.assert_close(
            score(probabilities[known], present[known]), score(probabilities[known][:, kept], relabelled[known])
        )


def test_none_is_ranked_without_rounding_one_minus_the_greatest():
    """In float32, one minus any probability below 3e-8 is one: ties that are none."""
    probabilities = torch.tensor([[1e-12], [1e-10], [1e-9], [1e-11]])
    scores = ranking_scores(probabilities, torch.tensor([-1, 0, 0, -1]))
    assert float(scores.auroc[-1]) == 1


def test_float64_is_ranked_as_such():
    probabilities = torch.tensor([[0.5], [0.5 + 1e-12], [0.5 - 1e-12]], dtype=torch.float64)
    scores = ranking_scores(probabilities, torch.tensor([-1, 0, -1]))
    assert scores.auroc.tolist() == [1, 1]


def test_negative_zero_ties_with_zero():
    scores = ranking_scores(torch.tensor([[-0.0], [0.0]]), torch.tensor([0, -1]))
    assert scores.auroc.tolist() == [0.5, 0.5]


def test_subnormal_scores_are_told_apart():
    scores = ranking_scores(torch.tensor([[1e-45], [0.0], [3e-45]]), torch.tensor([-1, -1, 0]))
    assert scores.auroc.tolist() == [1, 0.75 - 0.25 + 0.5]


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20)
def test_order_of_rows_has_no_influence(seed):
    probabilities, labels = draw_predictions(40, seed=seed)
    probabilities = (probabilities * 8).round() / 8
    order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
    for one, other in zip(
        ranking_scores(probabilities, labels), ranking_scores(probabilities[order], labels[order]), strict=True
    ):
        assert torch.equal(one.nan_to_num(-1), other.nan_to_num(-1))


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20)
def test_order_of_classes_has_no_influence(seed):
    probabilities, labels = draw_predictions(40, seed=seed)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    renamed = torch.where(labels < 0, labels, order.argsort()[labels])
    for one, other in zip(
        weighted_auroc_aupr(probabilities, labels), weighted_auroc_aupr(probabilities[:, order], renamed), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_inputs_may_be_slices_and_stay_as_they_are():
    probabilities, labels = draw_predictions(50, classes=9)
    wide = probabilities.clone()
    sliced = ranking_scores(wide[:, 2:3], labels.where(labels == 2, -1).where(labels != 2, 0))
    whole = ranking_scores(wide[:, 2:3].contiguous(), labels.where(labels == 2, -1).where(labels != 2, 0))
    for one, other in zip(sliced, whole, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(wide, probabilities)


def test_no_rows_have_no_average():
    auroc, aupr = weighted_auroc_aupr(torch.empty(0, 3), torch.empty(0, dtype=torch.int64))
    assert math.isnan(auroc)
    assert math.isnan(aupr)


def test_one_class_alone_has_an_aupr_but_no_auroc():
    auroc, aupr = weighted_auroc_aupr(torch.tensor([[0.5, 0.1], [0.2, 0.3]]), torch.tensor([0, 0]))
    assert math.isnan(auroc)
    assert float(aupr) == 1


def test_mean_is_weighted_over_defined_values_only():
    assert float(support_weighted_mean(torch.tensor([0.5, 1.0, math.nan]), torch.tensor([1, 3, 7]))) == 0.875
    assert math.isnan(support_weighted_mean(torch.full((3,), math.nan), torch.ones(3)))


def test_refuses_logits():
    with pytest.raises(DataError, match="not logits"):
        weighted_auroc(torch.tensor([[3.0, -1.0]]), torch.tensor([0]))

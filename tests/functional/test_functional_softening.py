"""Label softening equals Sec. 2.4, word by word."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from estitchup_pl.errors import ConfigError
from estitchup_pl.functional import soften_labels

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
target_rows = st.lists(
    st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.5, 0.9, 1.0]), min_size=4, max_size=4), min_size=1, max_size=5
)
softnesses = st.sampled_from([0.0, 0.05, 0.1, 0.3, 1.0])


def soften_row(row: list[float], softness: float) -> list[float]:
    zeros = sum(value == 0 for value in row)
    return [1 / zeros if value == 0 else max(value - softness, 0.0) for value in row]


@given(rows=target_rows, softness=softnesses)
def test_equals_the_paper_entry_by_entry(rows, softness):
    targets = torch.tensor(rows, dtype=torch.float64)
    softened = soften_labels(targets, softness)
    expected = torch.tensor([soften_row(row, softness) for row in rows], dtype=torch.float64)
    torch.testing.assert_close(softened, expected, rtol=1e-12, atol=1e-15)  # a softness in float32 would be 1e-9 off
    assert bool(((softened >= 0) & (softened <= 1)).all())


@given(lam=st.floats(0.15, 0.85), softness=st.sampled_from([0.05, 0.1]))
def test_rows_of_mixed_targets_sum_to_two_less_the_softness(lam, softness):
    """Not to one: two positives lose the softness each, and a total of one goes to the zeros."""
    softened = soften_labels(torch.tensor([lam, 1 - lam, 0, 0, 0], dtype=torch.float64), softness)
    assert float(softened.sum()) == pytest.approx(2 - 2 * softness)


def test_an_entry_that_falls_to_zero_gets_no_share():
    """The zeros are found before the subtraction."""
    softened = soften_labels(torch.tensor([[0.95, 0.05, 0.0, 0.0]]), 0.1)
    torch.testing.assert_close(softened, torch.tensor([[0.85, 0.0, 0.5, 0.5]]))


def test_a_row_without_zeros_only_gets_the_subtraction():
    torch.testing.assert_close(soften_labels(torch.tensor([[0.75, 0.25]]), 0.1), torch.tensor([[0.65, 0.15]]))


def test_a_run_of_a_stack_equals_the_run_alone():
    targets = torch.eye(4).expand(3, 4, 4) * torch.tensor([1.0, 0.5, 0.2]).view(3, 1, 1)
    softness = torch.tensor([0.0, 0.1, 0.5])
    softened = soften_labels(targets, softness.view(3, 1, 1))
    for k in range(3):
        assert torch.equal(softened[k], soften_labels(targets[k], float(softness[k])))


def test_columns_that_are_no_class_of_a_run_stay_out():
    """A run with fewer classes than the widest of its stack is softened as if the others were not there."""
    targets = torch.tensor([[0.75, 0.25, 0.0, 0.0, 0.0]])
    is_class = torch.tensor([True, True, True, True, False])
    softened = soften_labels(targets, 0.1, class_mask=is_class)
    assert torch.equal(softened[:, :4], soften_labels(targets[:, :4], 0.1))
    assert float(softened[0, 4]) == 0


@pytest.mark.parametrize("dtype", FLOATS)
def test_type_is_kept_and_the_input_untouched(dtype):
    targets = torch.eye(4, dtype=dtype)
    before = targets.clone()
    assert soften_labels(targets, 0.1).dtype == dtype
    assert torch.equal(targets, before)


@pytest.mark.parametrize("dtype", FLOATS)
def test_shares_are_right_with_more_zeros_than_a_small_float_can_count(dtype):
    softened = soften_labels(torch.zeros(1, 70_000, dtype=dtype), 0.1)
    assert float(softened[0, 0]) == pytest.approx(1 / 70_000, rel=1e-2)


@pytest.mark.parametrize("softness", [-0.1, 1.5, float("nan")])
def test_refuses_an_impossible_softness(softness):
    with pytest.raises(ConfigError, match="softness: expected a number from 0 to 1"):
        soften_labels(torch.eye(2), softness)

"""Nearest rows: against scikit-learn, over blocks, with ties, in any precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.functional import k_nearest, nearest_mean_distance, neighbor_distance, neighbors, unit_length


def normal(rows: int, dim: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(neighbors, "_QUERY_ROWS", 3)
    monkeypatch.setattr(neighbors, "_BANK_ROWS", 5)


@pytest.mark.parametrize("k", [1, 4, 7, 32])
def test_finds_over_blocks_what_scikit_learn_finds(k, small_blocks):
    queries, bank = normal(20).double(), normal(32, seed=1).double()
    distances, rows = NearestNeighbors(n_neighbors=k, metric="cosine").fit(bank).kneighbors(queries)
    found = k_nearest(queries, unit_length(bank), k)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(1 - found.cosines, distances, atol=1e-12)
    np.testing.assert_allclose(neighbor_distance(queries, unit_length(bank), k), distances.mean(axis=1) / 2, atol=1e-12)


@pytest.mark.parametrize("k", [1, 4, 9])
def test_of_equally_near_rows_the_first_are_taken(k, small_blocks):
    axes = torch.tensor([1, 0, 1, 1, 0, 2, 1, 1, 2, 1, 1, 0, 1])
    found = k_nearest(torch.tensor([[0.0, 3.0, 0.0]] * 4), torch.eye(3)[axes], k)
    expected = [*(axes == 1).nonzero().flatten().tolist(), *(axes != 1).nonzero().flatten().tolist()][:k]
    assert found.rows.tolist() == [expected] * 4


def test_blocks_make_no_difference(small_blocks, monkeypatch):
    queries, bank = normal(50), unit_length(normal(70, seed=1))
    in_blocks = k_nearest(queries, bank, 6)
    monkeypatch.undo()
    at_once = k_nearest(queries, bank, 6)
    assert torch.equal(in_blocks.rows, at_once.rows)
    torch.testing.assert_close(in_blocks.cosines, at_once.cosines)


def test_autocast_does_not_round_cosines():
    queries, bank = normal(50), unit_length(normal(70, seed=1))
    expected = neighbor_distance(queries, bank, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(neighbor_distance(queries, bank, 5), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_length_is_one_in_every_type(dtype):
    rows = unit_length((normal(5) * 1000).to(dtype))
    assert rows.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(5, dtype=rows.dtype))


def test_ends_of_float16_and_zeros_have_their_right_distance():
    queries = torch.tensor([[65504.0, 65504.0], [65504.0, -65504.0], [0.0, 0.0], [6e-8, 0.0]], dtype=torch.float16)
    bank = unit_length(torch.tensor([[1.0, 1.0]]))
    expected = torch.tensor([0.0, 0.5, 0.5, (1 - 0.5**0.5) / 2], dtype=torch.float64)
    torch.testing.assert_close(neighbor_distance(queries, bank, 1), expected, rtol=0, atol=1e-7)


def test_a_missing_modality_is_nearest_to_rows_that_lack_it_too():
    complete, title_alone = torch.tensor([[3.0, 4.0, 5.0, 1.0]]), torch.tensor([[3.0, 4.0, 0.0, 0.0]])
    to_complete = neighbor_distance(title_alone, unit_length(complete), 1)
    both = unit_length(torch.cat([complete, 2 * title_alone]))
    assert float(to_complete) == pytest.approx((1 - 5 / 51**0.5) / 2, abs=1e-7)
    assert float(neighbor_distance(title_alone, both, 1)) == pytest.approx(0, abs=1e-7)


def test_no_queries_have_no_neighbours():
    found = k_nearest(torch.empty(0, 12), unit_length(normal(4)), 3)
    assert found.cosines.shape == found.rows.shape == (0, 3)
    assert nearest_mean_distance(torch.empty(0, 12), unit_length(normal(4))).shape == (0,)


@pytest.mark.parametrize(
    ("queries", "bank", "k", "error", "message"),
    [
        (normal(2), normal(3), 0, ConfigError, "k: expected at least one neighbour, got 0"),
        (normal(2), torch.empty(0, 12), 1, DataError, r"at least one row .* got \(2, 12\) and \(0, 12\)"),
        (normal(2), normal(3, dim=11), 1, DataError, r"got \(2, 12\) and \(3, 11\)"),
        (normal(2)[0], normal(3), 1, DataError, r"queries \(rows, dim\)"),
    ],
)
def test_refuses_what_has_no_neighbours(queries, bank, k, error, message):
    with pytest.raises(error, match=message):
        k_nearest(queries, bank, k)

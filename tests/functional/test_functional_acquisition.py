"""What makes an item worth a label, held against NumPy, scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from estitchup_pl.errors import ConfigError
from estitchup_pl.functional import acquisition
from estitchup_pl.functional.acquisition import (
    farthest_first,
    margin_uncertainty,
    typicality,
    without_near_copies,
)


def some_embeddings(rows: int = 60, dim: int = 5) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(rows, dim)).astype(np.float32))


def some_probabilities(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).random(shape))


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_the_margin_is_the_lead_over_the_second_class(precision: torch.dtype) -> None:
    probabilities = some_probabilities(50, 4).to(precision)
    ordered = np.sort(probabilities.numpy(), axis=1)
    found = margin_uncertainty(probabilities)
    assert found.dtype == precision
    np.testing.assert_allclose(found, 1 - (ordered[:, -1] - ordered[:, -2]))
    np.testing.assert_allclose(margin_uncertainty(probabilities[:, :1]), 1 - probabilities[:, 0])


@pytest.mark.parametrize("rows_at_once", [7, 2048])
def test_typicality_is_one_over_the_mean_distance_to_the_neighbours(
    rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acquisition, "ROWS_AT_ONCE", rows_at_once)
    embeddings = some_embeddings()
    unit = normalize(embeddings.numpy().astype(np.float64))
    distances, _ = NearestNeighbors(n_neighbors=5).fit(unit).kneighbors()  # without the points themselves
    np.testing.assert_allclose(typicality(embeddings, k=5), 1 / distances.mean(axis=1), rtol=1e-4)


def test_typicality_of_copies_is_finite_and_a_lone_item_is_typical() -> None:
    assert typicality(torch.ones(4, 3), k=2).tolist() == pytest.approx([1000.0] * 4)
    assert typicality(torch.ones(1, 3)).tolist() == [1.0]
    with pytest.raises(ConfigError, match="at least one neighbour"):
        typicality(torch.ones(4, 3), k=0)


@pytest.mark.parametrize("rows_at_once", [2, 2048])
def test_each_pick_is_the_farthest_from_all_before(rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acquisition, "ROWS_AT_ONCE", rows_at_once)
    embeddings = some_embeddings()
    covered, pool = embeddings[:5], embeddings[5:]
    picked = farthest_first(pool, covered, 20).tolist()
    unit = normalize(embeddings.numpy().astype(np.float64))
    known = list(range(5))
    for position in picked:
        nearest = pairwise_distances(unit[5:], unit[known]).min(axis=1)
        assert nearest[position] == pytest.approx(nearest.max(), abs=1e-5)
        known.append(5 + position)
    assert len(set(picked)) == 20


def test_a_core_set_takes_every_item_once_even_where_all_are_equal() -> None:
    assert sorted(farthest_first(torch.ones(4, 2), torch.ones(1, 2), 9).tolist()) == [0, 1, 2, 3]
    assert farthest_first(torch.ones(3, 2), torch.empty(0, 2), 1).tolist() == [0]


def test_near_copies_are_passed_over_in_any_length() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [5.0, 0.1], [0.0, 1.0], [-1.0, 0.0]])
    order = torch.tensor([1, 0, 3, 2])
    assert list(without_near_copies(embeddings, order, 0.99)) == [1, 3, 2]
    assert list(without_near_copies(embeddings, order, 1.0)) == [1, 0, 3, 2]
    with pytest.raises(ConfigError, match="similarity"):
        list(without_near_copies(embeddings, order, 0.0))

"""Scores of "none": classes that do not exist, few rows and many columns, and what is told apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import special
from scipy.spatial.distance import jensenshannon
from sklearn.covariance import LedoitWolf

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.functional import (
    disagreement,
    energy_score,
    entropy_score,
    fit_gaussians,
    mahalanobis_distance,
    max_logit_score,
    mean_logits,
    moments,
    relative_mahalanobis_distance,
    shrunk_covariance,
    squash,
    sum_of_z_scores,
)


def test_squash_rises_strictly_where_a_sigmoid_is_flat():
    values = torch.cat([-torch.logspace(8, -8, 100), torch.zeros(1), torch.logspace(-8, 8, 100)]).double()
    squashed = squash(values)
    assert bool((squashed.diff() > 0).all())
    torch.testing.assert_close(squashed, 1 - squash(-values))
    assert not bool((values[-30:].sigmoid().diff() > 0).any())


@pytest.mark.parametrize("score", [max_logit_score, energy_score])
def test_a_class_that_does_not_exist_changes_nothing(score):
    logits = torch.tensor([[1.0, -2.0, 0.5], [3.0, 3.0, 3.0]])
    held_out = torch.cat([logits, torch.full((2, 2), -torch.inf)], dim=1)
    torch.testing.assert_close(score(held_out), score(logits))


def test_entropy_and_disagreement_with_a_class_that_does_not_exist():
    logits = torch.tensor([[1.0, -2.0, 0.5]])
    held_out = torch.cat([logits, torch.full((1, 1), -torch.inf)], dim=1)
    torch.testing.assert_close(entropy_score(held_out) * math.log(4), entropy_score(logits) * math.log(3))
    members = torch.stack([held_out, held_out.roll(1, dims=1)])
    p, q = special.softmax(members.double().numpy()[:, 0], axis=1)
    expected = jensenshannon(p, q, base=2) ** 2
    torch.testing.assert_close(disagreement(members), torch.tensor([expected]))
    assert mean_logits(members).isneginf().sum() == 0
    assert mean_logits(torch.stack([held_out, held_out]))[0, 3] == -torch.inf


def test_no_class_at_all_is_the_greatest_entropy_and_no_disagreement():
    nothing = torch.full((1, 3), -torch.inf)
    assert float(entropy_score(nothing)) == pytest.approx(1)
    assert float(disagreement(torch.stack([nothing, nothing]))) == pytest.approx(0, abs=1e-12)
    assert squash(max_logit_score(nothing)).tolist() == squash(energy_score(nothing)).tolist() == [1.0]


def test_scores_tell_unsure_rows_from_sure_ones_by_all_logits():
    """Equal greatest logits: energy falls and entropy rises with the second one."""
    logits = torch.tensor([[2.0, -5.0, -5.0], [2.0, 1.5, -5.0]])
    assert max_logit_score(logits).diff() == 0
    assert energy_score(logits).diff() < 0
    assert entropy_score(logits).diff() > 0


def test_many_members_that_are_sure_of_classes_of_their_own_disagree_wholly():
    members = 100 * torch.eye(3).unsqueeze(1).expand(3, 2, 3)
    torch.testing.assert_close(disagreement(members), torch.ones(2).double())
    assert disagreement(members[:1]).tolist() == [0.0, 0.0]


def test_disagreement_needs_members():
    with pytest.raises(DataError, match=r"each member of an ensemble, \(members, rows, classes\), got \(2, 3\)"):
        disagreement(torch.zeros(2, 3))


def few_rows(rows: int = 24, dim: int = 70) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(dim, dim, generator=generator)
    embeddings = torch.randn(rows, dim, generator=generator) @ mixing + 5
    labels = torch.arange(rows) % 3
    return embeddings + 4 * torch.eye(3, dim)[labels], labels


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_mahalanobis_with_fewer_rows_than_columns_is_that_of_scikit_learn(dtype):
    embeddings, labels = few_rows()
    embeddings = embeddings.to(dtype)
    rows = embeddings.double().numpy()
    means = np.stack([rows[labels == k].mean(axis=0) for k in range(3)])
    estimated = LedoitWolf(assume_centered=True).fit(rows - means[labels])
    foreign = rows[::-1] * 1.5
    expected = np.min([estimated.mahalanobis(foreign - mean) for mean in means], axis=0) / 70
    gaussians = fit_gaussians(embeddings, labels)
    got = mahalanobis_distance(torch.from_numpy(foreign.copy()), gaussians)
    np.testing.assert_allclose(got, expected, rtol=1e-9)
    whole = LedoitWolf().fit(rows)
    relative = relative_mahalanobis_distance(
        torch.from_numpy(foreign.copy()), gaussians, fit_gaussians(embeddings, torch.zeros_like(labels))
    )
    np.testing.assert_allclose(relative, expected - whole.mahalanobis(foreign) / 70, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("embeddings", [torch.ones(5, 3), torch.zeros(1, 3), torch.eye(3)[[0, 0, 1, 1]] * 65504])
def test_rows_that_do_not_vary_leave_a_covariance_that_can_be_inverted(embeddings):
    gaussians = fit_gaussians(embeddings, torch.zeros(len(embeddings), dtype=torch.int64))
    assert bool(mahalanobis_distance(embeddings.half(), gaussians).isfinite().all())
    assert bool(gaussians.whitening.isfinite().all())


@pytest.mark.parametrize("shrinkage", [0.0, -0.1, 1.1, math.nan])
def test_refuses_a_shrinkage_that_may_leave_no_inverse(shrinkage):
    with pytest.raises(ConfigError, match="shrinkage: expected more than 0 and at most 1, or null"):
        shrunk_covariance(torch.eye(2), shrinkage)


def test_moments_leave_out_what_is_infinite():
    mean, std = moments(torch.tensor([[1.0, 3.0, torch.inf, -torch.inf], [torch.inf] * 4]))
    assert mean.tolist() == [2.0, 0.0]
    assert std.tolist() == [1.0, 0.0]


def test_a_sum_is_finite_and_needs_no_deviation():
    scores = torch.tensor([[torch.inf, 1.0, -torch.inf], [2.0, 2.0, 2.0]])
    total = sum_of_z_scores(scores, torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.0]))
    assert total.tolist() == [1e12, 1.0, -1e12]

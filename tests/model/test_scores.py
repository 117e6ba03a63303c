"""None scores: what each keeps, learns and answers, on the rows that break scores."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.model import (
    Disagreement,
    Energy,
    Entropy,
    Mahalanobis,
    MaxLogit,
    MaxProbability,
    NearestMean,
    NeighborDistance,
    NoneScore,
    RelativeMahalanobis,
    SumOfScores,
)

SCORES: dict[str, NoneScore] = {
    "max probability": MaxProbability(),
    "max logit": MaxLogit(),
    "energy": Energy(),
    "entropy": Entropy(),
    "neighbours": NeighborDistance(k=3),
    "nearest mean": NearestMean(),
    "mahalanobis": Mahalanobis(),
    "relative mahalanobis": RelativeMahalanobis(),
    "sum": SumOfScores(),
    "sum of three": SumOfScores([MaxProbability(), NeighborDistance(), NearestMean()]),
    "sum of a sum": SumOfScores([SumOfScores([Energy()]), Mahalanobis(0.5)]),
}


def blobs(rows: int = 60, dim: int = 8, classes: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings around one axis a class, their labels, and logits that see the class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(rows) % classes
    embeddings = 4 * torch.eye(classes, dim)[labels] + torch.randn(rows, dim, generator=generator)
    return embeddings, labels, 2 * embeddings[:, :classes] - 4


def fitted(name: str, embeddings: Tensor, labels: Tensor, logits: Tensor) -> NoneScore:
    score = copy.deepcopy(SCORES[name])
    score.fit(embeddings, labels)
    score.standardize(embeddings, logits)
    return score


@pytest.mark.parametrize("name", SCORES)
def test_rows_of_no_class_score_higher(name):
    embeddings, labels, logits = blobs()
    score = fitted(name, embeddings, labels, logits)
    foreign = -embeddings + 4 * torch.eye(8)[7]
    known, unknown = score(embeddings, logits), score(foreign, 2 * foreign[:, :3] - 4)
    assert known.dtype == torch.float64
    assert known.shape == (60,)
    assert float(unknown.median()) > float(known.median())


@pytest.mark.parametrize("name", SCORES)
def test_state_goes_into_a_fresh_score_and_gives_the_same(name, tmp_path):
    embeddings, labels, logits = blobs()
    score, again = fitted(name, embeddings, labels, logits), copy.deepcopy(SCORES[name])
    torch.save(score.state_dict(), tmp_path / "state.pt")
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(score(embeddings, logits), again(embeddings, logits))
    assert {key: value.dtype for key, value in score.state_dict().items()} == {
        key: value.dtype for key, value in again.state_dict().items()
    }


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize(
    "embeddings",
    [
        pytest.param(torch.full((6, 4), 3.0), id="constant"),
        pytest.param(torch.zeros(6, 4), id="zeros"),
        pytest.param(torch.tensor([[65504.0, -65504.0, 65504.0, 0.0]] * 5 + [[0.0] * 4]).half(), id="float16's ends"),
        pytest.param(torch.tensor([[1e30, -1e30, 3.0, 0.0], [1e-30, 0.0, 0.0, 0.0]] * 3), id="float32's ends"),
        pytest.param(torch.tensor([[1.0, 2.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]] * 3), id="a modality missing"),
    ],
)
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("logit", [0.0, 1e4, -1e4])
def test_answers_are_finite_whatever_the_rows(name, embeddings, classes, logit):
    labels = torch.arange(6) % classes
    logits = torch.full((6, classes), logit)
    logits[0] = -torch.inf
    score = fitted(name, embeddings, labels, logits)
    for answers in (score(embeddings, logits), score(embeddings.flip(1), logits), score(embeddings[:1], logits[:1])):
        assert bool(((answers >= 0) & (answers <= 1)).all())


@pytest.mark.parametrize("name", SCORES)
def test_ties_everywhere_score_alike(name):
    embeddings, labels, logits = torch.ones(6, 4), torch.arange(6) % 2, torch.ones(6, 2)
    answers = fitted(name, embeddings, labels, logits)(embeddings, logits)
    torch.testing.assert_close(answers, answers[:1].expand(6))


@pytest.mark.parametrize("name", SCORES)
def test_leaves_its_inputs_alone_and_needs_no_gradient(name):
    embeddings, labels, logits = blobs()
    before = [value.clone() for value in (embeddings, labels, logits)]
    score = fitted(name, embeddings.requires_grad_(), labels, logits)
    score(embeddings, logits)
    assert all(map(torch.equal, before, (embeddings, labels, logits)))
    assert not any(buffer.requires_grad for buffer in score.buffers())


@pytest.mark.parametrize("name", ["neighbours", "nearest mean", "mahalanobis", "relative mahalanobis", "sum"])
def test_says_that_it_has_learnt_nothing(name):
    embeddings, _, logits = blobs()
    with pytest.raises(ConfigError, match=r"has learnt nothing yet: fit it, or load it from a checkpoint"):
        SCORES[name](embeddings, logits)


@pytest.mark.parametrize("score", [NeighborDistance(), NearestMean(), Mahalanobis(), SumOfScores()])
def test_refuses_to_learn_from_no_rows(score):
    with pytest.raises(DataError, match=r"at least one row, got \(0, 4\) and \(0,\)"):
        score.fit(torch.empty(0, 4), torch.empty(0, dtype=torch.int64))


def test_acceptance_by_the_papers_score_is_the_confidence():
    logits = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)) * 4
    confidence = logits.sigmoid().amax(dim=1)
    assert torch.equal((1 - MaxProbability()(torch.empty(200, 0), logits)).float(), confidence)


def test_the_sum_is_that_of_z_scores_of_logit_and_distance():
    embeddings, labels, logits = blobs()
    train, rest = slice(0, 30), slice(30, 60)
    score = SumOfScores([MaxProbability(), NeighborDistance(k=2)])
    score.fit(embeddings[train], labels[train])
    score.standardize(embeddings[rest], logits[rest])
    unit = torch.nn.functional.normalize(embeddings.double(), dim=1)
    distance = 1 - (unit[rest] @ unit[train].T).sort(descending=True).values[:, :2].mean(dim=1)
    confidence = logits[rest].double().sigmoid().amax(dim=1)
    total = sum((value - value.mean()) / value.std(correction=0) for value in (-torch.logit(confidence), distance))
    expected = total / (1 + total.abs()) / 2 + 0.5
    torch.testing.assert_close(score(embeddings[rest], logits[rest]), expected, rtol=0, atol=2e-3)  # float16 bank


def test_fitting_again_keeps_the_moments():
    embeddings, labels, logits = blobs()
    score = fitted("sum", embeddings, labels, logits)
    moments = score.mean, score.std
    score.fit(embeddings[:20], labels[:20])
    assert all(map(torch.equal, moments, (score.mean, score.std)))


def test_a_bank_is_capped_by_a_fixed_draw_that_keeps_rare_classes():
    embeddings, _, _ = blobs(rows=300)
    labels = torch.zeros(300, dtype=torch.int64)
    labels[7], labels[[250, 260]] = 1, 2
    first, second = (NeighborDistance(k=1, max_rows=10) for _ in range(2))
    for score in (first, second):
        torch.rand(3)  # nothing that others draw matters
        score.fit(embeddings, labels)
    assert torch.equal(first.bank, second.bank)
    assert first.bank.shape == (10, 8)
    assert first.bank.dtype == torch.float16
    assert float(first(embeddings[[7, 250, 260]], torch.empty(3, 1)).amax()) < 1e-3


def test_disagreement_needs_members_and_so_does_a_sum_with_it():
    assert not SumOfScores().of_members
    score = SumOfScores([Disagreement(), MaxProbability()])
    assert score.of_members
    embeddings, labels, logits = blobs()
    members = torch.stack([logits, logits, logits.roll(1, dims=1)])
    score.fit(embeddings, labels)
    score.standardize(embeddings, members)
    assert score(embeddings, members).shape == (60,)
    with pytest.raises(DataError, match=r"needs the logits of each member .* got \(60, 3\): use it with an ensemble"):
        score(embeddings, logits)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NeighborDistance(k=0), "k: expected at least 1, got 0"),
        (lambda: NeighborDistance(max_rows=0), "max_rows: expected at least 1, got 0"),
        (lambda: Mahalanobis(shrinkage=0.0), "shrinkage: expected more than 0 and at most 1"),
        (lambda: SumOfScores([]), "scores: expected at least one score"),
    ],
)
def test_refuses_arguments_that_cannot_work(make, message):
    with pytest.raises(ConfigError, match=message):
        make()

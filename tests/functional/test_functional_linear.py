"""Linear classifiers against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.functional import (
    LinearMap,
    choose_penalty,
    choose_temperature,
    expected_calibration_error,
    fit_lda,
    fit_logistic_regression,
    linear,
    log_odds,
    top_label,
)
from estitchup_pl.model import LDA


def blobs(rows: int, dim: int, classes: int, spread: float = 1.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of Gaussian blobs far from the origin, on axes of very different scale; each class has a row."""
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), generator.integers(0, classes, rows - classes)])
    means = generator.normal(0, 1.5, (classes, dim))
    embeddings = (means[labels] + generator.normal(0, spread, (rows, dim))) * np.geomspace(0.1, 5, dim) + 7
    return torch.from_numpy(embeddings.astype(np.float32)), torch.from_numpy(labels)


def scores(fitted: LinearMap, embeddings: torch.Tensor) -> torch.Tensor:
    return embeddings.double() @ fitted.weight.T + fitted.bias


@pytest.mark.parametrize("penalty", [0.3, 1.0, 40.0])
@pytest.mark.parametrize(("rows", "dim", "classes"), [(120, 6, 4), (40, 90, 5), (60, 8, 2)])
def test_logistic_regression_is_scikit_learns(rows: int, dim: int, classes: int, penalty: float) -> None:
    embeddings, labels = blobs(rows, dim, classes)
    others = blobs(50, dim, classes, seed=1)[0]
    # Of two classes scikit-learn weighs the difference of the weights, whose square is twice the sum of both squares.
    estimator = LogisticRegression(
        C=(2 if classes == 2 else 1) / penalty, tol=1e-9, max_iter=10_000, solver="newton-cg"
    )
    estimator.fit(embeddings.double().numpy(), labels.numpy())
    got = scores(fit_logistic_regression(embeddings, labels, penalty, tolerance=1e-12), others).softmax(-1).numpy()
    np.testing.assert_allclose(got, estimator.predict_proba(others.double().numpy()), atol=1e-4)


def test_the_penalty_is_the_best_of_the_path_up_to_the_first_rise_on_rows_that_no_fit_has_seen() -> None:
    embeddings, labels = blobs(90, 12, 3, spread=3.0)
    penalties = [1000.0, 100.0, 10.0, 1.0, 0.1]
    fold = np.empty(90, int)
    fold[np.argsort(labels.numpy(), kind="stable")] = np.arange(90) % 3
    losses = []
    for penalty in penalties:
        estimator = LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=100_000)
        total = 0.0
        for held_out in (fold == number for number in range(3)):
            estimator.fit(embeddings.numpy()[~held_out], labels.numpy()[~held_out])
            found = estimator.predict_proba(embeddings.numpy()[held_out])
            total += log_loss(labels.numpy()[held_out], found, labels=[0, 1, 2], normalize=False)
        losses.append(total)
    best = int(np.argmin(losses))
    assert 0 < best < len(penalties) - 1
    assert all(np.diff(losses)[:best] < 0)
    assert choose_penalty(embeddings, labels, penalties, folds=3) == penalties[best]


def test_no_penalty_is_judged_by_fits_that_end_too_soon() -> None:
    generator = np.random.default_rng(0)
    labels = torch.arange(400) % 20
    means = generator.normal(0, 1, (20, 120))
    rows = torch.from_numpy(means[labels] + generator.normal(0, 2.5, (400, 120))).float()
    rows = torch.nn.functional.normalize(rows, dim=-1)
    penalties = [float((rows - rows.mean(0)).square().sum(-1).mean()) * 10 ** (-step / 2) for step in range(9)]
    fold = torch.empty(400, dtype=torch.int64)
    fold[labels.argsort(stable=True)] = torch.arange(400) % 4

    def loss(penalty: float) -> float:
        total = 0.0
        for held_out in (fold == number for number in range(4)):
            fitted = fit_logistic_regression(rows[~held_out], labels[~held_out], penalty, tolerance=1e-10)
            total += float(torch.nn.functional.cross_entropy(scores(fitted, rows[held_out]), labels[held_out]))
        return total

    losses = [loss(penalty) for penalty in penalties[-3:]]
    assert losses == sorted(losses, reverse=True)  # found by fits that go on to the end
    assert choose_penalty(rows, labels, penalties) == penalties[-1]


def test_the_choice_depends_neither_on_units_nor_on_where_the_rows_lie() -> None:
    embeddings, labels = blobs(90, 5, 3, spread=3.0)
    choice = choose_penalty(embeddings, labels)
    assert choose_penalty(embeddings * 8 - 3, labels) == pytest.approx(64 * choice, rel=1e-5)


def test_of_many_rows_only_as_many_folds_are_predicted_as_give_a_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, labels = blobs(300, 3, 3)
    fitted = []

    def path(rows, codes, penalties, precision):  # type: ignore[no-untyped-def]
        fitted.append(len(rows))
        yield LinearMap(torch.zeros(3, 3), torch.zeros(3))

    monkeypatch.setattr(linear, "_path", path)
    for enough, folds in ((1000, 4), (150, 2), (75, 1), (76, 2)):
        fitted.clear()
        monkeypatch.setattr(linear, "HELD_OUT_ROWS", enough)
        choose_penalty(embeddings, labels, [1.0])
        assert fitted == [225] * folds


def test_a_class_with_one_row_takes_no_part_in_the_choice() -> None:
    embeddings, labels = blobs(60, 4, 3)
    alone = torch.cat([embeddings, embeddings[:1] + 100]), torch.cat([labels, torch.tensor([3])])
    assert choose_penalty(*alone, [3.0, 1.0]) in (3.0, 1.0)
    only_alone = embeddings[:3], torch.tensor([0, 1, 2])
    assert choose_penalty(*only_alone, [3.0, 1.0]) == 3.0


def tempered(*rows: torch.Tensor) -> float:
    return choose_temperature(fit_lda, *rows)


@pytest.mark.parametrize(("rows", "dim", "spread"), [(90, 12, 3.0), (60, 90, 4.0), (90, 6, 0.1)])
def test_the_temperature_has_the_least_loss_on_rows_that_no_fit_has_seen(rows: int, dim: int, spread: float) -> None:
    embeddings, labels = blobs(rows, dim, 3, spread)
    fold = np.empty(rows, int)
    fold[np.argsort(labels.numpy(), kind="stable")] = np.arange(rows) % 3
    said, right = [], []
    for held_out in (fold == number for number in range(3)):
        reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5)
        reference.fit(embeddings.double().numpy()[~held_out], labels.numpy()[~held_out])
        scores = reference.decision_function(embeddings.double().numpy()[held_out])
        said.append(scores)
        right.append(scores.argmax(-1) == labels.numpy()[held_out])
    correct = np.concatenate(right)
    targets = np.where(correct, (correct.sum() + 1) / (correct.sum() + 2), 1 / ((~correct).sum() + 2))

    def loss(temperature: float) -> float:
        top = special.log_softmax(np.concatenate(said) / temperature, axis=-1).max(-1)
        others = np.log(-np.expm1(np.minimum(top, -1e-15)))
        return float(-(targets * top + (1 - targets) * others).mean())

    got = choose_temperature(lambda *fold: fit_lda(*fold, 0.5), embeddings, labels, folds=3)
    grid = np.geomspace(0.01, 1e6, 400)
    assert loss(got) <= min(map(loss, grid)) + 1e-6
    assert 0.5 * got < grid[np.argmin(list(map(loss, grid)))] < 2 * got


def test_the_confidence_of_lda_holds_on_new_rows_where_it_alone_is_far_too_sure() -> None:
    embeddings, labels = blobs(400, 150, 8, spread=8.0)
    known, new = (embeddings[:200], labels[:200]), (embeddings[200:], labels[200:])

    def error(fitted: LinearMap) -> float:
        return float(expected_calibration_error(*top_label(scores(fitted, new[0]).softmax(-1), new[1])))

    alone, held = LDA(temperature=1.0).solve(*known), LDA().solve(*known)
    torch.testing.assert_close(alone, fit_lda(*known), rtol=0, atol=0)
    torch.testing.assert_close(held.weight * tempered(*known), alone.weight)
    torch.testing.assert_close(held.bias * tempered(*known), alone.bias)
    assert error(held) < error(alone) / 3


def test_rows_whose_class_is_in_no_other_fold_have_no_part_in_the_temperature() -> None:
    embeddings, labels = blobs(60, 4, 3)
    alone = torch.cat([embeddings, embeddings[:1] + 100]), torch.cat([labels, torch.tensor([3])])
    assert 0.01 < tempered(*alone) < 1e6
    assert tempered(embeddings[:3], torch.tensor([0, 1, 2])) == 1.0
    twice = torch.eye(4)[[0, 0, 1, 1]], torch.tensor([0, 0, 1, 1])  # no two rows differ within a class
    assert tempered(*twice) == 1.0


@pytest.mark.parametrize("shrinkage", [0.01, 0.5, 1.0])
@pytest.mark.parametrize(("rows", "dim", "classes"), [(120, 6, 4), (40, 90, 5)])
def test_lda_is_scikit_learns(rows: int, dim: int, classes: int, shrinkage: float) -> None:
    embeddings, labels = blobs(rows, dim, classes)
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
    reference.fit(embeddings.double().numpy(), labels.numpy())
    others = blobs(50, dim, classes, seed=1)[0]
    got = scores(fit_lda(embeddings, labels, shrinkage), others)
    expected = reference.decision_function(others.double().numpy())
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def test_lda_shrinks_as_ledoit_and_wolf_say() -> None:
    embeddings, labels = blobs(80, 30, 4)
    means = np.stack([embeddings.double().numpy()[labels == label].mean(0) for label in range(4)])
    share = ledoit_wolf_shrinkage(embeddings.double().numpy() - means[labels], assume_centered=True)
    assert 0.01 < share < 0.9
    expected = fit_lda(embeddings, labels, float(share))
    for got, wanted in zip(fit_lda(embeddings, labels), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_odds_are_those_of_the_softmax_and_never_infinite(dtype: torch.dtype) -> None:
    values = torch.from_numpy(np.random.default_rng(0).normal(0, 8, (2, 30, 5))).to(dtype)
    values[0, 0] = torch.tensor([0.0, 0, 0, 0, 700])
    values[0, 1] = 0.0
    before, got = values.clone(), log_odds(values)
    exact = values.double().numpy()
    for column in range(5):
        others = special.logsumexp(np.delete(exact, column, -1), axis=-1)
        np.testing.assert_allclose(got[..., column], exact[..., column] - others, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got.sigmoid(), values.softmax(-1))
    assert bool(got.isfinite().all())
    assert torch.equal(values, before)


def test_log_odds_have_the_gradient_that_finite_differences_find() -> None:
    values = torch.tensor([[0.3, -1.0, 2.0], [30.0, 0.0, -5.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(log_odds, (values,))


@pytest.mark.parametrize("fit", [lambda *rows: fit_logistic_regression(*rows, 1.0), choose_penalty, fit_lda, tempered])
def test_what_comes_in_is_left_alone_and_the_same_rows_give_the_same(fit) -> None:  # type: ignore[no-untyped-def]
    for dtype in (torch.float32, torch.float64):
        embeddings, labels = blobs(40, 6, 3)
        embeddings = embeddings.to(dtype)
        before = embeddings.clone(), labels.clone()
        first, again = fit(embeddings, labels), fit(embeddings, labels)
        assert torch.equal(embeddings, before[0])
        assert torch.equal(labels, before[1])
        for one, other in zip(
            *((value if isinstance(value, tuple) else [value]) for value in (first, again)), strict=True
        ):
            assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))


ROWS = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        (ROWS, torch.tensor([0, 1, 0]), r"got torch.float32 \(4, 2\) and \(3,\)"),
        (ROWS.int(), torch.tensor([0, 1, 0, 1]), "expected floating point"),
        (ROWS, torch.tensor([0, -1, 1, 1]), 'some are "none"'),
        (ROWS, torch.tensor([0, 2, 2, 0]), "class 1 has no row"),
        (ROWS, torch.tensor([0, 0, 0, 0]), "at least two classes, each with a row; got 1"),
        (ROWS[:0], torch.empty(0, dtype=torch.int64), "at least two classes, each with a row; got 0"),
        (ROWS / torch.tensor([[1], [1], [0], [1]]), torch.tensor([0, 1, 0, 1]), "row 2 has a value that is not finite"),
    ],
)
def test_rows_that_nothing_can_be_fitted_to_are_refused(
    embeddings: torch.Tensor, labels: torch.Tensor, message: str
) -> None:
    for fit in (lambda *rows: fit_logistic_regression(*rows, 1.0), choose_penalty, fit_lda, tempered):
        with pytest.raises(DataError, match=message):
            fit(embeddings, labels)


def test_options_that_cannot_work_are_refused() -> None:
    labels = torch.tensor([0, 1, 0, 1])
    with pytest.raises(ConfigError, match="must be positive, got 0"):
        fit_logistic_regression(ROWS, labels, 0)
    with pytest.raises(ConfigError, match="shrinkage"):
        fit_lda(ROWS, labels, 0.0)
    with pytest.raises(ConfigError, match="folds must be at least 2, got 1"):
        choose_penalty(ROWS, labels, folds=1)
    with pytest.raises(ConfigError, match="folds must be at least 2, got 1"):
        choose_temperature(fit_lda, ROWS, labels, folds=1)
    with pytest.raises(ConfigError, match="temperature must be positive, got 0"):
        LDA(temperature=0)
    with pytest.raises(ConfigError, match=r"must fall, the strongest first, got 0\.1, 1\.0"):
        choose_penalty(ROWS, labels, [0.1, 1.0])
    with pytest.raises(ConfigError, match="must be positive, got none"):
        choose_penalty(ROWS, labels, [])
    with pytest.raises(DataError, match="all rows of each class are the same"):
        fit_lda(torch.eye(2), torch.tensor([0, 1]))

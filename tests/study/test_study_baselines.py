"""Classifiers of scikit-learn on original and augmented rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

from estitchup_pl.callbacks import Augmentation, EMixup, LabelSoftening
from estitchup_pl.errors import ConfigError
from estitchup_pl.study.baselines import augmented_rows, estimator_logits, fit_estimator

GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.randint(3, (60,), generator=GENERATOR)
ROWS = torch.randn(60, 4, generator=GENERATOR) + 3 * torch.eye(3, 4)[LABELS]


def test_a_mixed_item_comes_once_for_each_class_weighted_by_its_target():
    mixed, labels, weights = augmented_rows(EMixup(0.4), ROWS, LABELS, seed=1, copy=0)
    items = np.unique(mixed.numpy(), axis=0)
    assert len(items) == 60
    for item in items:
        own = (mixed.numpy() == item).all(1)
        assert own.sum() in (1, 2)
        assert len(set(labels[own].tolist())) == own.sum()
        assert float(weights[own].sum()) == pytest.approx(1)
    assert not torch.equal(mixed, augmented_rows(EMixup(0.4), ROWS, LABELS, seed=1, copy=1)[0][: len(mixed)])


def test_without_augmentation_it_is_scikit_learns_own_fit():
    fitted = fit_estimator(LogisticRegression(), ROWS, LABELS)
    expected = LogisticRegression(random_state=0).fit(ROWS.numpy(), LABELS.numpy()).predict_proba(ROWS.numpy())
    np.testing.assert_allclose(special.expit(estimator_logits(fitted, ROWS.numpy())), expected, rtol=1e-4)


def test_augmented_copies_are_used_and_repeat():
    first, again, plain = (
        fit_estimator(LogisticRegression(), ROWS, LABELS, callbacks, copies=2, seed=3)
        for callbacks in ([EMixup(0.4)], [EMixup(0.4)], [])
    )
    np.testing.assert_array_equal(first.coef_, again.coef_)
    assert not np.allclose(first.coef_, plain.coef_)


class Shift(Augmentation):
    """Pairs nothing."""

    def augment(self, embeddings, targets, generator):
        return embeddings + 10, targets


def test_an_augmentation_that_pairs_nothing_gives_each_row_once_with_its_own_class():
    changed, labels, weights = augmented_rows(Shift(), ROWS, LABELS, seed=0, copy=0)
    torch.testing.assert_close(changed, ROWS + 10)
    assert torch.equal(labels, LABELS)
    assert bool((weights == 1).all())


def test_margins_of_a_machine_without_probabilities_are_its_logits():
    fitted = fit_estimator(LinearSVC(), ROWS, LABELS)
    np.testing.assert_array_equal(estimator_logits(fitted, ROWS.numpy()), fitted.decision_function(ROWS.numpy()))
    two = fit_estimator(LinearSVC(), ROWS[LABELS < 2], LABELS[LABELS < 2])
    margins = two.decision_function(ROWS.numpy())
    np.testing.assert_array_equal(estimator_logits(two, ROWS.numpy()), np.stack([-margins, margins], 1))


def test_what_cannot_be_done_is_told():
    with pytest.raises(ConfigError, match="takes one augmentation such as EStitchup"):
        fit_estimator(LogisticRegression(), ROWS, LABELS, [LabelSoftening(0.1)])
    with pytest.raises(ConfigError, match="KNeighborsClassifier cannot weight its rows"):
        fit_estimator(KNeighborsClassifier(), ROWS, LABELS, [EMixup()])

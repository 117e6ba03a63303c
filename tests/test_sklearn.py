"""The estimator: scikit-learn's own checks, its tools, and the "none" that they do not know."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from estitchup_pl.sklearn import EStitchupClassifier


def quick(**options: Any) -> EStitchupClassifier:
    return EStitchupClassifier(**{"epochs": 8, "min_steps": 150, "repeats": 0, "random_state": 0, **options})


@parametrize_with_checks([quick(min_steps=100, epochs=4)])
def test_checks_of_scikit_learn(estimator: EStitchupClassifier, check: Callable[[EStitchupClassifier], None]) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    return load_digits(return_X_y=True)


def test_unknown_classes_become_none(digits: tuple[np.ndarray, np.ndarray]) -> None:
    embeddings, labels = digits
    known = labels < 8
    train = np.flatnonzero(known)[:800]
    test = np.setdiff1d(np.arange(len(labels)), train)
    names = np.array([f"digit {label}" for label in labels], dtype=object)
    classifier = EStitchupClassifier(epochs=20, none_label="none", random_state=0).fit(embeddings[train], names[train])
    predicted = classifier.predict(embeddings[test])
    assert 0 < classifier.threshold_ < 1
    assert np.mean(predicted[~known[test]] == "none") > 0.6
    assert np.mean(predicted[known[test]] == names[test][known[test]]) > 0.8
    assert roc_auc_score(~known[test], classifier.none_score(embeddings[test])) > 0.9
    decided = classifier.model_.predict(embeddings[test].astype(np.float32))
    places = {f"{place:08d}": name for place, name in enumerate(classifier.classes_)} | {"none": "none"}
    assert predicted.tolist() == [places[name] for name in decided.predicted]
    assert np.array_equal(classifier.none_score(embeddings[test]), decided.none_scores)
    again = pickle.loads(pickle.dumps(classifier))
    assert np.array_equal(again.predict(embeddings[test]), predicted)
    assert np.array_equal(again.predict_proba(embeddings[test]), classifier.predict_proba(embeddings[test]))


def test_it_works_in_the_tools_of_scikit_learn(digits: tuple[np.ndarray, np.ndarray]) -> None:
    embeddings, labels = digits[0][:400], digits[1][:400]
    pipeline = make_pipeline(StandardScaler(), quick(scaling="none"))
    assert np.mean(cross_val_predict(pipeline, embeddings, labels, cv=3) == labels) > 0.85
    search = GridSearchCV(quick(), {"alpha": [None, 0.4]}, cv=2).fit(embeddings, labels)
    assert search.best_score_ > 0.85
    assert search.score(embeddings, labels) > 0.95
    calibrated = CalibratedClassifierCV(quick(), cv=2).fit(embeddings, labels)
    assert calibrated.score(embeddings, labels) > 0.9


def test_the_same_seed_gives_the_same_answers(digits: tuple[np.ndarray, np.ndarray]) -> None:
    embeddings, labels = digits[0][:200], digits[1][:200]
    first = quick(repeats=1).fit(embeddings, labels)
    again = clone(first).fit(embeddings, labels)
    other = quick(repeats=1, random_state=1).fit(embeddings, labels)
    assert np.array_equal(first.predict_proba(embeddings), again.predict_proba(embeddings))
    assert first.threshold_ == again.threshold_
    assert not np.array_equal(first.predict_proba(embeddings), other.predict_proba(embeddings))

"""Prediction sets against MAPIE's on its own example, and the promise that they make."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.functional import conformal_quantile, prediction_set

MAPIE = {0.8: (0.27780720, [61, 314, 0, 0]), 0.9: (0.56458811, [1, 365, 9, 0]), 0.95: (0.78900754, [0, 307, 66, 2])}
"""By level, the quantile and how many sets have 0, 1, 2 and 3 classes.

MAPIE 1.6.0 on :func:`three_clouds`: ``SplitConformalClassifier(GaussianNB().fit(*train), confidence_level=[0.8, 0.9,
0.95], prefit=True, conformity_score="lac")``, ``conformalize(*calibration)``, ``predict_set(test)``.
"""


def three_clouds() -> list[tuple[np.ndarray, np.ndarray]]:
    """Train, calibration and test of the example that MAPIE's documentation begins with: three Gaussians."""
    draw = np.random.RandomState(42).multivariate_normal
    clouds = zip([(0, 3.5), (-2, 0), (2, 0)], [np.eye(2), np.eye(2) * 2, np.diag([5, 1])], strict=True)
    points, labels = np.vstack([draw(centre, spread, 500) for centre, spread in clouds]), np.arange(1500) // 500
    train, rest, train_labels, rest_labels = train_test_split(points, labels, test_size=0.5, random_state=42)
    calibration, test, own, others = train_test_split(rest, rest_labels, test_size=0.5, random_state=42)
    return [(train, train_labels), (calibration, own), (test, others)]


@pytest.mark.parametrize("level", MAPIE)
def test_equals_mapie_on_its_own_example(level):
    train, (calibration, labels), (test, _) = three_clouds()
    model = GaussianNB().fit(*train)
    quantile = conformal_quantile(torch.tensor(model.predict_proba(calibration)), torch.tensor(labels), level)
    sizes = prediction_set(torch.tensor(model.predict_proba(test)), quantile).sum(dim=1)
    assert quantile == pytest.approx(MAPIE[level][0], abs=1e-8)
    assert sizes.bincount(minlength=4).tolist() == MAPIE[level][1]


@pytest.mark.parametrize(("rows", "level"), [(19, 0.9), (200, 0.8)])
def test_sets_hold_the_class_as_often_as_promised(rows, level):
    """On average over 4,000 draws the share lies between the level and one in ``rows + 1`` above it."""
    source = torch.Generator().manual_seed(0)
    hits = []
    for _ in range(4000):
        probabilities = torch.rand(rows + 1, 3, generator=source)
        labels = torch.multinomial(probabilities**3, 1, generator=source).squeeze(1)
        quantile = conformal_quantile(probabilities[:-1], labels[:-1], level)
        hits.append(bool(prediction_set(probabilities[-1:], quantile)[0, labels[-1]]))
    assert level - 0.02 < np.mean(hits) < level + 1 / (rows + 1) + 0.02


def test_none_rows_do_not_matter_and_too_few_rows_promise_everything():
    probabilities, labels = torch.tensor([[0.9, 0.2], [0.3, 0.6], [0.1, 0.1]]), torch.tensor([0, 1, -1])
    assert conformal_quantile(probabilities, labels, 0.6) == pytest.approx(0.4)
    quantile = conformal_quantile(probabilities, labels, 0.7)
    assert quantile == 1
    assert bool(prediction_set(torch.tensor([[0.0, 1.0]]), quantile).all())


def test_refuses_what_cannot_be():
    with pytest.raises(ConfigError, match="level: expected a share between 0 and 1, got 1"):
        conformal_quantile(torch.tensor([[0.5]]), torch.tensor([0]), 1.0)
    with pytest.raises(DataError, match="no row of a known class"):
        conformal_quantile(torch.tensor([[0.5]]), torch.tensor([-1]))
    with pytest.raises(DataError, match="not logits"):
        prediction_set(torch.tensor([[3.0]]), 0.5)

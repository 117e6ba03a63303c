"""The temperature is the one with the least loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import optimize

from estitchup_pl.errors import DataError
from estitchup_pl.functional import fit_temperature


@pytest.mark.parametrize("scale", [0.3, 1.0, 6.0])
def test_equals_a_minimisation_by_scipy(scale):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 5, 400)
    logits = scale * (generator.normal(0, 2, (400, 5)) + 3 * np.eye(5)[labels] - 2)

    def loss(temperature: float) -> float:
        z = logits / temperature
        return float(np.mean(np.logaddexp(0, z) - np.eye(5)[labels] * z))

    expected = optimize.minimize_scalar(loss, bounds=(0.02, 50), method="bounded", options={"xatol": 1e-8}).x
    found = fit_temperature(torch.from_numpy(logits), torch.from_numpy(labels))
    assert found == pytest.approx(expected, rel=1e-4)


def test_undoes_a_factor_on_the_logits():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 3, generator=generator) * 2
    labels = logits.softmax(-1).multinomial(1, generator=generator).squeeze(-1)
    assert fit_temperature(7 * logits, labels) == pytest.approx(7 * fit_temperature(logits, labels), rel=1e-4)


def test_without_rows_is_an_error():
    with pytest.raises(DataError, match=r"^no row of a known class .* or lower held_out$"):
        fit_temperature(torch.empty(0, 3), torch.empty(0, dtype=torch.int64))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 3], "class index below 3, got 3"),
        ([0], "labels \\(rows,\\)"),
    ],
)
def test_refuses_labels_that_are_no_classes(labels, message):
    with pytest.raises(DataError, match=message):
        fit_temperature(torch.ones(2, 3), torch.tensor(labels))


def test_takes_logits_that_carry_gradients():
    logits, labels = torch.tensor([[1.0, -2.0], [3.0, -1.0]]), torch.tensor([0, 1])
    assert fit_temperature(logits.clone().requires_grad_(), labels) == fit_temperature(logits, labels)

"""Affine, isotonic and normalising calibration: against scikit-learn, on ties, on classes that do not exist."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from estitchup_pl.errors import ConfigError
from estitchup_pl.functional import (
    apply_affine,
    apply_isotonic,
    apply_logit_norm,
    expected_calibration_error,
    fit_isotonic,
    fit_logit_norm,
    fit_platt,
    fit_temperature,
    fit_top_temperature,
    fit_vector_scaling,
    normalize_logits,
    risk_areas,
    squash,
    top_label,
)


def smoothed(rows: int = 4000, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Logits whose calibration no temperature mends: too sure where unsure, too timid where sure."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, classes, generator=generator) * 2
    labels = (logits * 1.5).softmax(-1).multinomial(1, generator=generator).squeeze(-1)
    return (logits.sign() * logits.abs().sqrt() - 1).double(), labels


def test_without_a_pull_vector_scaling_is_logistic_regression_of_each_class():
    logits, labels = smoothed()
    affine = fit_vector_scaling(logits, labels, shrinkage=0.0)
    for k in range(5):
        expected = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, k : k + 1].numpy(), labels.numpy() == k)
        assert float(affine.scale[k]) == pytest.approx(expected.coef_.item(), rel=1e-4)
        assert float(affine.shift[k]) == pytest.approx(expected.intercept_.item(), rel=1e-4, abs=1e-5)


def test_a_strong_pull_makes_vector_scaling_one_temperature():
    logits, labels = smoothed()
    temperature = fit_temperature(logits, labels)
    for shrinkage, tolerance in ((1e7, 1e-3), (torch.inf, 1e-12)):
        affine = fit_vector_scaling(logits, labels, shrinkage)
        torch.testing.assert_close(affine.scale * temperature, torch.ones(5).double(), rtol=0, atol=tolerance)
        torch.testing.assert_close(affine.shift, torch.zeros(5).double(), rtol=0, atol=tolerance)


def test_a_class_that_no_row_knows_keeps_the_temperature():
    logits, labels = smoothed()
    logits[:, 4], labels = -torch.inf, labels.where(labels < 4, -1)
    affine = fit_vector_scaling(logits, labels)
    assert float(affine.scale[4]) == pytest.approx(1 / fit_temperature(logits, labels))
    assert float(affine.shift[4]) == 0
    others = fit_vector_scaling(logits[:, :4], labels)
    torch.testing.assert_close(affine.scale[:4], others.scale, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shrinkage", [-1.0, float("nan")])
def test_refuses_a_pull_that_pushes(shrinkage):
    with pytest.raises(ConfigError, match="shrinkage: expected at least 0"):
        fit_vector_scaling(torch.ones(1, 2), torch.tensor([0]), shrinkage)


def test_platt_is_logistic_regression():
    logits, labels = smoothed()
    top, predicted = logits.max(dim=1)
    expected = LogisticRegression(C=np.inf, tol=1e-10).fit(top[:, None].numpy(), predicted.numpy() == labels.numpy())
    affine = fit_platt(top, predicted == labels)
    assert float(affine.scale) == pytest.approx(expected.coef_.item(), rel=1e-4)
    assert float(affine.shift) == pytest.approx(expected.intercept_.item(), rel=1e-3)


def test_isotonic_accuracy_is_scikit_learns_at_any_logit():
    logits, labels = smoothed()
    labels[::7] = -1
    known = labels >= 0
    top, predicted = logits.max(dim=1)
    expected = IsotonicRegression(out_of_bounds="clip").fit(top[known], (predicted == labels)[known].double())
    calibrated = apply_isotonic(logits, fit_isotonic(logits, labels)).sigmoid().amax(dim=1)
    rows = int(known.sum())
    accuracy = ((rows + 2) * calibrated - 2 * top.sigmoid()) / rows
    np.testing.assert_allclose(accuracy, expected.predict(top), atol=1e-7)


@pytest.mark.parametrize("fit_and_apply", [(fit_isotonic, apply_isotonic), (fit_logit_norm, apply_logit_norm)])
def test_the_order_of_a_rows_classes_stays(fit_and_apply):
    fit, apply = fit_and_apply
    logits, labels = smoothed()
    calibrated = apply(logits, fit(logits, labels))
    assert torch.equal(calibrated.argsort(dim=1), logits.argsort(dim=1))


def test_isotonic_keeps_the_order_of_rows_even_where_it_is_flat():
    logits = torch.tensor([[-3.0], [-1.0], [0.0], [1.0], [6.0], [30.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 0, 0, 0])
    calibrated = apply_isotonic(logits, fit_isotonic(logits, labels)).squeeze(1)
    assert bool((calibrated.diff() > 0).all())
    assert bool(calibrated.isfinite().all())


@pytest.mark.parametrize("name", ["platt", "isotonic", "logit norm"])
def test_calibrates_the_top_label_better_than_a_temperature_where_that_has_the_wrong_shape(name):
    logits, labels = smoothed()
    fitted, rest = slice(0, 2000), slice(2000, 4000)
    known = logits[fitted], labels[fitted]
    top, predicted = known[0].max(dim=1)
    calibrated = {
        "platt": lambda z: apply_affine(z, fit_platt(top, predicted == known[1])),
        "isotonic": lambda z: apply_isotonic(z, fit_isotonic(*known)),
        "logit norm": lambda z: apply_logit_norm(z, fit_logit_norm(*known)),
    }[name](logits[rest])

    def error(values: Tensor) -> float:
        return float(expected_calibration_error(*top_label(values.sigmoid(), labels[rest])))

    assert error(calibrated) < 0.6 * error(logits[rest] / fit_top_temperature(*known))


def test_a_norm_ranks_errors_last_where_smoothing_has_held_back_what_is_sure():
    """Rows that are right have one great logit less than those that are wrong, but stand out more for their size."""
    generator = torch.Generator().manual_seed(0)
    right = torch.arange(400) % 2 == 0
    size = torch.rand(400, generator=generator) + torch.where(right, 1.0, 3.0)
    logits = size.unsqueeze(1) * torch.where(right, 1.0, 0.6).unsqueeze(1) * torch.eye(4)[0] + torch.where(
        right, 0.0, 1.0
    ).unsqueeze(1) * torch.tensor([0.0, 1.5, 0.0, 0.0])
    labels = torch.where(right, 0, 3)
    norm = int(fit_logit_norm(logits, labels).norm)
    assert norm > 0
    plain, normalized = (
        float(risk_areas(squash(values.amax(dim=1)), right).aurc) for values in (logits, normalize_logits(logits, norm))
    )
    assert normalized < plain


def test_without_a_better_norm_the_logits_stay():
    logits, labels = torch.tensor([[3.0, 0.0], [2.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 0, 1])
    fitted = fit_logit_norm(logits, labels)
    assert int(fitted.norm) == 0
    torch.testing.assert_close(apply_logit_norm(logits, fitted), apply_affine(logits, fitted.affine))


@pytest.mark.parametrize("norm", [1, 2, 10])
def test_a_class_that_does_not_exist_has_no_say_in_a_norm(norm):
    logits = torch.tensor([[3.0, -1.0, 0.5]])
    held_out = torch.cat([logits, torch.full((1, 2), -torch.inf)], dim=1)
    torch.testing.assert_close(normalize_logits(held_out, norm)[:, :3], normalize_logits(logits, norm))
    assert bool((normalize_logits(held_out, norm)[:, 3:] == -torch.inf).all())


@pytest.mark.parametrize("values", [[0.1] * 10, [1e4, 1e4], [-65504.0, 65504.0], [7.0], [-torch.inf, -torch.inf]])
def test_norms_of_ties_and_of_great_logits_are_no_nan(values):
    for dtype in (torch.float32, torch.float64):
        normalized = normalize_logits(torch.tensor([values], dtype=dtype), 3)
        assert not bool(normalized.isnan().any())
        if len(set(values)) == 1:
            assert set(normalized.flatten().tolist()) <= {0.0, -torch.inf}

"""Calibrators: the right family by target, held-out classes, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.functional import fit_temperature, fit_top_temperature
from estitchup_pl.model import Calibrator, IsotonicTopLabel, LogitNormalization, Temperature, VectorScaling

CALIBRATORS: dict[str, Calibrator] = {
    "temperature by the top class": Temperature(),
    "temperature by all classes": Temperature("all"),
    "vector scaling": VectorScaling(),
    "vector scaling as it likes": VectorScaling(shrinkage=0.0),
    "isotonic": IsotonicTopLabel(),
    "logit normalisation": LogitNormalization(),
}


def validation(rows: int = 300, classes: int = 4):
    """Logits three times too sure; every fifth row is "none", and half the rows know one class less."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, classes, generator=generator) * 2 - 1
    labels = logits.softmax(-1).multinomial(1, generator=generator).squeeze(-1)
    logits = logits * 3
    held_out = torch.arange(rows) % 2 == 0
    logits[held_out, -1] = -torch.inf
    labels[held_out & (labels == classes - 1)] = -1
    labels[::5] = -1
    return logits, labels


@pytest.mark.parametrize("name", CALIBRATORS)
def test_state_goes_into_a_fresh_calibrator_and_gives_the_same(name, tmp_path):
    logits, labels = validation()
    calibrator, again = copy.deepcopy(CALIBRATORS[name]), copy.deepcopy(CALIBRATORS[name])
    calibrator.fit(logits, labels)
    torch.save(calibrator.state_dict(), tmp_path / "state.pt")
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(calibrator(logits), again(logits))


@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_held_out_classes_stay_impossible_and_nothing_becomes_nan(name, dtype):
    logits, labels = validation()
    logits = logits.to(dtype)
    before = logits.clone(), labels.clone()
    calibrator = copy.deepcopy(CALIBRATORS[name])
    calibrator.fit(logits.requires_grad_(), labels)
    calibrated = calibrator(logits)
    assert calibrated.dtype == dtype
    assert torch.equal(calibrated == -torch.inf, logits == -torch.inf)
    assert not bool(calibrated.isnan().any())
    assert all(map(torch.equal, before, (logits, labels)))


@pytest.mark.parametrize("name", CALIBRATORS)
def test_none_rows_have_no_say(name):
    logits, labels = validation()
    with_none, without = copy.deepcopy(CALIBRATORS[name]), copy.deepcopy(CALIBRATORS[name])
    with_none.fit(logits, labels)
    without.fit(logits[labels >= 0], labels[labels >= 0])
    assert torch.equal(with_none(logits), without(logits))


@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("labels", [torch.full((2,), -1), torch.tensor([1, -1])])
def test_refuses_rows_without_a_known_class(name, labels):
    logits = torch.tensor([[1.0, -torch.inf], [2.0, 0.0]])
    with pytest.raises(DataError, match=r"^no row of a known class among 2 validation rows to calibrate on: raise"):
        copy.deepcopy(CALIBRATORS[name]).fit(logits, labels)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_says_that_it_has_learnt_nothing(name):
    with pytest.raises(ConfigError, match="has learnt nothing yet"):
        CALIBRATORS[name](torch.zeros(1, 2))


@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_ties_and_rows_that_are_all_right_or_all_wrong(name, scale, label):
    for logits in (torch.full((8, 2), scale), torch.full((8, 2), -scale), torch.full((8, 1), scale)):
        calibrator = copy.deepcopy(CALIBRATORS[name])
        calibrator.fit(logits, torch.full((8,), min(label, logits.shape[1] - 1)))
        probabilities = calibrator(logits).sigmoid()
        assert bool(((probabilities >= 0) & (probabilities <= 1)).all())


def test_each_target_has_its_own_temperature():
    logits, labels = validation()
    for target, fit in (("top", fit_top_temperature), ("all", fit_temperature)):
        calibrator = Temperature(target)
        calibrator.fit(logits, labels)
        torch.testing.assert_close(calibrator(logits), logits / fit(logits, labels))
    assert fit_top_temperature(logits, labels) != pytest.approx(fit_temperature(logits, labels), rel=0.01)


def test_refuses_an_unknown_target():
    with pytest.raises(ConfigError, match=r"target: expected one of top, all, got 'al'; did you mean 'all'\?"):
        Temperature("al")

"""Every public function and every metric against its oracle, in both precisions and any memory layout.

What came in is compared before and after, to the last bit of its storage: a function that writes into it fails here,
and so does one that is not in the tables below.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map
from torchmetrics import Metric

from estitchup_pl import functional, metrics
from estitchup_pl.functional.temperature import LIMITS

FEWER = settings(max_examples=max(8, settings().max_examples // 4))
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
BOTH = (False, True)
TIES = (0.0, 0.1, 0.3, 0.5, 0.50000006, 0.7, 0.99999994, 1.0)
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda values: values,
    "every second": lambda values: values.repeat_interleave(2, dim=-1)[..., ::2],
    "transposed": lambda values: values.movedim(0, -1).contiguous().movedim(-1, 0),
    "slice": lambda values: torch.cat([values, values], dim=-1)[..., : values.shape[-1]],
    "expanded": lambda values: values[:1].expand_as(values),
}


class Inputs:
    """Draws tensors of one precision, each in a layout of its own."""

    def __init__(self, data: st.DataObject, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.pick = lambda *values: data.draw(st.sampled_from(values))
        self.number = lambda low, high: data.draw(st.integers(low, high))
        self.seed = self.number(0, 2**32 - 1)
        self.source = np.random.default_rng(self.seed)
        self.rows, self.classes = self.number(0, 12), self.number(1, 4)

    def lay_out(self, values: Any, dtype: torch.dtype | None = None, layout: str = "") -> Tensor:
        return LAYOUTS[layout or self.pick(*LAYOUTS)](torch.as_tensor(values).to(dtype or self.dtype))

    def unit(self, *shape: int) -> Tensor:
        smooth, tied = self.source.random(shape), self.source.choice(TIES, shape)
        return self.lay_out(np.where(self.source.random(shape) < 0.5, smooth, tied))

    def flags(self, *shape: int) -> Tensor:
        return self.lay_out(self.source.random(shape) < 0.6, torch.bool)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        return self.lay_out(self.source.integers(low, high, shape), torch.int64)

    def predictions(self) -> tuple[Tensor, Tensor]:
        return self.unit(self.rows, self.classes), self.integers(-1, self.classes, self.rows)

    def scores(self) -> Tensor | None:
        return self.pick(None, self.unit(self.rows))

    def scored(self) -> tuple[Tensor, Tensor, Tensor | None]:
        return *self.predictions(), self.scores()

    def known_predictions(self) -> tuple[Tensor, Tensor, float]:
        self.rows += 1
        probabilities, labels = self.predictions()
        return probabilities, labels.index_fill(0, torch.tensor([0]), 0), self.pick(0.25, 0.5, 0.75)

    def top(self) -> tuple[Tensor, Tensor]:
        return self.unit(self.rows), self.flags(self.rows)

    def top_and_bins(self) -> tuple[Tensor, Tensor, int]:
        return *self.top(), self.pick(1, 2, 3, 10, 15)

    def decisions(self) -> tuple[Tensor, Tensor, Tensor]:
        return (
            self.unit(self.rows),
            self.integers(0, self.classes, self.rows),
            self.integers(-1, self.classes, self.rows),
        )

    def decisions_of_both_kinds(self) -> tuple[Tensor, Tensor, Tensor, str]:
        self.rows += 2
        confidence, predicted, _ = self.decisions()
        labels = self.source.permutation([-1, 0, *self.source.integers(-1, self.classes, self.rows - 2)])
        return confidence, predicted, torch.from_numpy(labels), self.pick(*functional.HEURISTICS)

    def many_decisions(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows enough for a bound, right more often where the confidence is great."""
        self.rows, self.classes = self.number(0, 400), 3
        confidence, predicted, labels = self.decisions()
        right = self.source.random(self.rows) < self.pick(0.5, 0.95, 1.0) * confidence.numpy() ** 0.1
        return confidence, predicted, torch.where(torch.from_numpy(right), predicted, labels)

    def bins(self) -> tuple[functional.ReliabilityBins]:
        shape = self.number(0, 3), self.pick(1, 3, 10)
        counts = self.source.integers(0, 4, shape)
        accuracy = np.where(counts, self.source.integers(0, 100, shape) % np.maximum(counts, 1), np.nan)
        means = np.where(counts, self.source.random(shape), np.nan), accuracy / np.maximum(counts, 1)
        layout = self.pick(*LAYOUTS)
        means = (self.lay_out(mean, layout=layout) for mean in means)
        return (functional.ReliabilityBins(self.lay_out(counts, torch.int64, layout), *means),)

    def batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        shape = (*self.pick((), (2,)), self.rows)
        targets = self.source.choice([0.0, 0.25, 1.0], (*shape, self.classes))
        embeddings = self.lay_out(self.source.normal(0, 3, (*shape, self.number(0, 5))))
        return embeddings, self.lay_out(targets), self.unit(*shape), self.integers(0, max(self.rows, 1), *shape)

    def stitched_batch(self) -> tuple[Tensor, ...]:
        batch = self.batch()
        return *batch, self.flags(*batch[0].shape)

    def modality_batch(self) -> tuple[Any, ...]:
        embeddings, targets, lam, index = self.batch()
        first = self.number(0, embeddings.shape[-1])
        widths = [first, embeddings.shape[-1] - first]
        return embeddings, targets, self.flags(*lam.shape, 2), index, widths

    def logits(self, *more: int) -> Tensor:
        """Logits of every size, of which some tie."""
        smooth = self.source.normal(0, self.pick(0.1, 1, 20), (*more, self.rows, self.classes))
        return self.lay_out(np.where(self.source.random(smooth.shape) < 0.3, np.round(smooth), smooth))

    def validation(self) -> tuple[Tensor, Tensor]:
        """Logits and labels, at least one of them of a class."""
        self.rows += 1
        labels = self.source.permutation([0, *self.source.integers(-1, self.classes, self.rows - 1)])
        return self.logits(), self.lay_out(labels, torch.int64, self.pick("contiguous", "every second", "slice"))

    def isotonic_map(self) -> functional.IsotonicMap:
        size = self.number(1, 4)
        knots, accuracy = np.sort(self.source.normal(0, 3, size)), np.sort(self.source.random(size))
        return functional.IsotonicMap(*map(torch.from_numpy, (knots, accuracy)), torch.tensor(self.number(1, 50)))

    def vectors(self, rows: int, dim: int) -> Tensor:
        """Rows of small integers, of which some tie and some are zero."""
        return self.lay_out(self.source.integers(-2, 3, (rows, dim)))

    def labelled(self) -> tuple[Tensor, Tensor]:
        self.rows += 1
        return self.vectors(self.rows, 3), self.integers(0, self.classes, self.rows)

    def training_rows(self) -> tuple[Tensor, Tensor]:
        """Two or three classes with two rows at least."""
        classes = self.number(2, 3)
        labels = self.source.permutation(
            [*range(classes), *range(classes), *self.source.integers(0, classes, self.rows)]
        )
        rows = self.source.normal(0, 1, (len(labels), 4)) + np.eye(3, 4)[labels]
        layout = self.pick(*sorted(LAYOUTS.keys() - {"expanded"}))  # which makes all rows the same
        return self.lay_out(rows, layout=layout), self.lay_out(labels, torch.int64, layout)

    def queries_and_bank(self) -> tuple[Tensor, Tensor, int]:
        """The bank's rows are of length one, so that its ties are exact."""
        bank = np.eye(3)[self.source.integers(0, 3, self.number(1, 9))] * self.pick(-1, 1)
        return self.vectors(self.rows, 3), self.lay_out(bank), self.number(1, 10)

    def gaussians(self) -> tuple[Tensor, functional.Gaussians]:
        whitening = np.tril(self.source.normal(0, 1, (3, 3)), -1) + np.eye(3)
        centers = self.source.normal(0, 3, (self.classes, 3))
        return self.vectors(self.rows, 3), functional.Gaussians(
            self.lay_out(centers), self.lay_out(whitening, layout="transposed")
        )

    def standardized(self) -> tuple[Tensor, Tensor, Tensor]:
        scores = self.lay_out(self.source.normal(0, 1, (self.classes, self.rows)))
        return scores, self.lay_out(self.source.normal(0, 1, self.classes)), self.unit(self.classes)

    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)


class Case(NamedTuple):
    """How to call a function and what it must give: ``oracle(*arguments)`` as NumPy, or a check of the result."""

    arguments: Callable[[Inputs], tuple[Any, ...]]
    oracle: Callable[..., Any] | None = None
    check: Callable[..., None] | None = None
    options: Callable[[Inputs], dict[str, Any]] = lambda _: {}


def check_pairs(index: Tensor, shape: tuple[int, ...], **_: Any) -> None:
    assert index.shape == shape
    assert all(oracles.is_one_cycle(run) for run in index.numpy().reshape(-1, shape[-1]))


def check_lambda(lam: Tensor, shape: tuple[int, ...], alpha: Tensor, *, dtype: torch.dtype, **_: Any) -> None:
    assert lam.dtype == dtype
    for values, parameter in zip(lam.numpy(), alpha.flatten().tolist(), strict=True):
        assert stats.kstest(values, stats.beta(parameter, parameter).cdf).pvalue > 1e-7


def check_mask(mask: Tensor, lam: Tensor, dim: int, **_: Any) -> None:
    assert mask.shape == (*lam.shape, dim)
    for hits, probability in zip(mask.sum(-1).flatten().tolist(), lam.flatten().tolist(), strict=True):
        assert stats.binomtest(hits, dim, round(probability * 2**16) / 2**16).pvalue > 1e-8


def check_relative_distance(got: Tensor, *arguments: Any) -> None:
    rows, classes, everything = as_numpy(arguments)
    distances = gaussian_oracle(rows, classes), gaussian_oracle(rows, everything)
    scale = max(np.abs(one).max(initial=1.0) for one in distances)  # a difference is as exact as what it is made of
    np.testing.assert_allclose(got.numpy(), distances[0] - distances[1], rtol=0, atol=1e-12 * scale)


def check_threshold(threshold: Tensor, confidence: Tensor, predicted: Tensor, labels: Tensor, heuristic: str) -> None:
    losses = oracles.threshold_losses(confidence.numpy(), predicted.numpy(), labels.numpy(), heuristic)
    lowest_of_the_best = min(losses, key=lambda pair: pair[1])[0]
    assert threshold.dtype == confidence.dtype
    precision = confidence.numpy().dtype.type
    assert float(threshold) == oracles.midway([limit for limit, _ in losses], lowest_of_the_best, precision)


def check_quantile(quantile: float, probabilities: Tensor, labels: Tensor, level: float) -> None:
    rows = zip(probabilities.tolist(), labels.tolist(), strict=True)
    check_level_quantile(quantile, [1 - row[label] for row, label in rows if label != -1], level)


def check_level_quantile(quantile: float, unlikely: list[float], level: float) -> None:
    enough = [value for value in unlikely if sum(other <= value for other in unlikely) >= level * (len(unlikely) + 1)]
    assert quantile == (min(enough) if enough else 1)


def check_least_cost(threshold: Tensor, *rows: Any) -> None:
    confidence, predicted, labels, *costs, none_share = as_numpy(rows)
    losses = oracles.costs_of_cuts(confidence, predicted, labels, *costs, none_share)
    decided = np.where(confidence > threshold.numpy(), predicted, -1)
    least = min(loss for _, loss in losses)
    assert oracles.cost_of(decided, labels, *costs, none_share) == pytest.approx(least, abs=1e-12)
    cheapest = [limit for limit, loss in losses if loss <= least + 1e-12]
    limits = [limit for limit, _ in losses]
    assert float(threshold) in {oracles.midway(limits, limit, confidence.dtype.type) for limit in cheapest}


def check_interval(
    interval: functional.ThresholdInterval, choose: Any, *rows: Tensor, resamples: int = 200, seed: int = 0
) -> None:
    labels, groups = rows[-2:]
    assert interval.none_rows == int((labels == -1).sum())
    assert interval.none_classes == len(set(groups[labels == -1].tolist()))
    assert 0 <= interval.low <= interval.high <= 1
    assert interval == functional.threshold_interval(choose, *rows, resamples=resamples, seed=seed)


def check_temperature(temperature: float, logits: Tensor, labels: Tensor) -> None:
    logits, labels = logits.numpy(), labels.numpy()
    best = oracles.fit_temperature(logits, labels, *LIMITS)
    losses = [oracles.temperature_loss(logits, labels, value) for value in (temperature, best)]
    assert LIMITS[0] <= temperature <= LIMITS[1]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6, abs=1e-9)


def check_top_temperature(temperature: float, logits: Tensor, labels: Tensor) -> None:
    top, right = oracles.top_temperature_terms(logits.numpy(), labels.numpy())
    best = oracles.fit_top_temperature(logits.numpy(), labels.numpy(), *LIMITS)
    losses = [np.mean(np.logaddexp(0, top / value) - right * top / value) for value in (temperature, best)]
    assert LIMITS[0] <= temperature <= LIMITS[1]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6, abs=1e-9)


def check_known_rows(got: functional.KnownRows, logits: Tensor, labels: Tensor) -> None:
    kept = [row for row, label in enumerate(labels.tolist()) if label != -1]
    assert torch.equal(got.logits, logits[kept].double())
    assert got.labels.tolist() == labels[kept].tolist()


def check_vector_scaling(got: functional.Affine, logits: Tensor, labels: Tensor, shrinkage: float) -> None:
    temperature = functional.fit_temperature(logits, labels)
    arguments = logits.numpy(), labels.numpy(), shrinkage, temperature
    reached = oracles.pulled_loss(*arguments, *(part.numpy() for part in got))
    assert bool((got.scale > 0).all())
    assert np.all(reached <= oracles.least_pulled_loss(*arguments) * (1 + 1e-6) + 1e-7)


def check_platt(got: functional.Affine, top: Tensor, correct: Tensor) -> None:
    logits, labels = top.unsqueeze(1), torch.where(correct, 0, 1)
    targets, top = correct.double().numpy(), logits.squeeze(1).double().numpy()

    def loss(values: tuple[float, float]) -> float:
        return oracles.cross_entropy(values[0] * top + values[1], targets) / len(top)

    best = optimize.minimize(loss, (1.0, 0.0), method="Nelder-Mead", bounds=[(1e-3, 1e3), (-1e3, 1e3)])
    assert float(got.scale) > 0
    assert loss((float(got.scale), float(got.shift))) <= best.fun * (1 + 1e-6) + 1e-7
    assert len(labels) == len(top)


def check_isotonic(got: functional.IsotonicMap, logits: Tensor, labels: Tensor) -> None:
    top, right = oracles.top_temperature_terms(logits.double().numpy(), labels.numpy())
    at = np.concatenate([top, np.linspace(top.min() - 1, top.max() + 1, 9)])
    np.testing.assert_allclose(np.interp(at, got.knots, got.accuracy), oracles.isotonic(top, right, at), atol=1e-9)
    assert int(got.rows) == len(top)


def check_logit_norm(got: functional.LogitNorm, logits: Tensor, labels: Tensor) -> None:
    known = labels.numpy() != -1
    kept, right = logits.double().numpy()[known], oracles.top_temperature_terms(logits.numpy(), labels.numpy())[1]
    confidences = [oracles.normalize_logits(kept, norm).max(axis=1) for norm in range(11)]
    areas = [oracles.risk_areas(np.round(values, 12), right)[0] for values in confidences]
    assert areas[int(got.norm)] == pytest.approx(min(areas), abs=1e-12, nan_ok=True)
    confidence = functional.normalize_logits(torch.from_numpy(kept), int(got.norm)).amax(dim=1)
    check_platt(got.affine, confidence, torch.from_numpy(right))


def close_to(oracle: Callable[..., Any]) -> Callable[..., None]:
    """Check a float64 result that was computed in the precision of the inputs."""

    def check(got: Any, *arguments: Any) -> None:
        tolerance = 64 * torch.finfo(arguments[0].dtype).eps
        expected = tree_leaves(oracle(*as_numpy(arguments)))
        for value, wanted in zip(tree_leaves(got), expected, strict=True):
            np.testing.assert_allclose(value.numpy(), wanted, rtol=tolerance, atol=tolerance)

    return check


def check_logistic_regression(got: functional.LinearMap, rows: Tensor, labels: Tensor, penalty: float) -> None:
    expected = oracles.logistic_regression(rows.numpy(), labels.numpy(), penalty)
    losses = [oracles.logistic_loss(*map(np.asarray, fit), rows.numpy(), labels.numpy()) for fit in (got, expected)]
    squares = [float(np.square(np.asarray(weight)).sum()) for weight, _ in (got, expected)]
    totals = [loss + penalty / 2 * square for loss, square in zip(losses, squares, strict=True)]
    assert totals[0] == pytest.approx(totals[1], rel=1e-5, abs=1e-5)


def check_penalty(got: float, rows: Tensor, labels: Tensor, penalties: list[float], folds: int) -> None:
    losses = oracles.held_out_losses(rows.double().numpy(), labels.numpy(), penalties, folds)
    place, margin = penalties.index(got), 1e-2 * max(losses)
    assert all(weaker < stronger + margin for stronger, weaker in itertools.pairwise(losses[: place + 1]))
    assert place + 1 == len(losses) or losses[place + 1] > losses[place] - margin


def check_lda(got: functional.LinearMap, rows: Tensor, labels: Tensor, shrinkage: float) -> None:
    rows, labels = rows.double().numpy(), labels.numpy()
    scores = rows @ got.weight.numpy().T + got.bias.numpy()
    expected = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(rows, labels).predict_proba(rows)
    np.testing.assert_allclose(special.softmax(scores, axis=-1), expected, atol=1e-7)


def half_shrunk(rows: Tensor, labels: Tensor) -> functional.LinearMap:
    return functional.fit_lda(rows, labels, 0.5)


def check_held_out_temperature(got: float, fit: Any, rows: Tensor, labels: Tensor, folds: int) -> None:
    del fit
    losses = oracles.tempered_losses(rows.double().numpy(), labels.numpy(), 0.5, folds, [got, *np.geomspace(0.01, 1e6)])
    assert losses[0] <= min(losses) + 1e-5 if losses else got == 1


def check_gaussians(got: functional.Gaussians, rows: Tensor, labels: Tensor, shrinkage: float | None) -> None:
    means, precision = oracles.gaussians(rows.numpy(), labels.numpy(), shrinkage)
    np.testing.assert_allclose(got.whitening.mT @ got.whitening, precision, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(got.centers, means @ got.whitening.numpy().T, rtol=1e-9, atol=1e-9)


def check_subsample(kept: Tensor, labels: Tensor, size: int, **_: Any) -> None:
    rows = kept.tolist()
    assert rows == sorted(set(rows))
    assert len(rows) == min(size, len(labels))
    taken, there = (np.bincount(values, minlength=4) for values in (labels[kept], labels))
    assert all(count >= taken.max() - 1 for count in taken[taken < there])


def gaussian_oracle(rows: np.ndarray, gaussians: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    centers, whitening = (part.astype(float) for part in gaussians)
    means = np.linalg.solve(whitening, centers.T).T
    return oracles.mahalanobis_distance(rows, means, whitening.T @ whitening)


FUNCTIONS: dict[str, Case] = {
    "choose_penalty": Case(lambda inputs: (*inputs.training_rows(), [10.0, 1.0], 2), check=check_penalty),
    "choose_temperature": Case(
        lambda inputs: (half_shrunk, *inputs.training_rows(), 2), check=check_held_out_temperature
    ),
    "fit_lda": Case(lambda inputs: (*inputs.training_rows(), inputs.pick(0.1, 0.5, 1.0)), check=check_lda),
    "fit_logistic_regression": Case(
        lambda inputs: (*inputs.training_rows(), inputs.pick(0.3, 3.0)), check=check_logistic_regression
    ),
    "log_odds": Case(
        lambda inputs: (inputs.lay_out(inputs.source.normal(0, 9, (inputs.rows, inputs.classes + 1))),),
        oracles.log_odds,
    ),
    "accepted_accuracy": Case(lambda inputs: (*inputs.top(), inputs.pick(*TIES, np.nan)), oracles.accepted_accuracy),
    "brier_score": Case(Inputs.predictions, oracles.brier_score),
    "negative_log_likelihood": Case(Inputs.predictions, oracles.negative_log_likelihood),
    "none_detection": Case(
        lambda inputs: (inputs.unit(inputs.rows), inputs.integers(-1, inputs.classes, inputs.rows)),
        oracles.none_detection,
    ),
    "risk_areas": Case(Inputs.top, oracles.risk_areas),
    "risk_coverage": Case(Inputs.top, oracles.risk_coverage),
    "acceptance": Case(lambda inputs: (inputs.unit(inputs.rows, inputs.classes), inputs.scores()), oracles.acceptance),
    "adaptive_calibration_error": Case(Inputs.top_and_bins, oracles.adaptive_calibration_error),
    "apply_affine": Case(
        lambda inputs: (inputs.logits(), functional.Affine(inputs.unit(inputs.classes), inputs.unit(inputs.classes))),
        oracles.affine,
    ),
    "apply_isotonic": Case(
        lambda inputs: (inputs.logits() / 4, inputs.isotonic_map()), check=close_to(oracles.apply_isotonic)
    ),
    "apply_logit_norm": Case(
        lambda inputs: (
            inputs.logits(),
            functional.LogitNorm(
                torch.tensor(inputs.number(0, 10)), functional.Affine(*torch.from_numpy(inputs.source.random(2)))
            ),
        ),
        check=close_to(
            lambda logits, fitted: oracles.affine(oracles.normalize_logits(logits, int(fitted[0])), fitted[1])
        ),
    ),
    "balanced_subsample": Case(
        lambda inputs: (inputs.integers(0, 4, inputs.rows), inputs.number(1, 12)),
        check=check_subsample,
        options=lambda inputs: {"generator": inputs.generator()},
    ),
    "binned_calibration_error": Case(Inputs.bins, lambda bins: oracles.over_last_axis(oracles.calibration_error, bins)),
    "binned_correlation": Case(lambda inputs: (*inputs.bins(), inputs.pick(*BOTH)), oracles.binned_correlation),
    "class_means": Case(Inputs.labelled, check=close_to(oracles.class_means)),
    "bounded_error_threshold": Case(
        lambda inputs: (*inputs.many_decisions(), inputs.pick(0.05, 0.3), inputs.pick(0.5, 0.95), inputs.pick(*BOTH)),
        oracles.bounded_error_threshold,
    ),
    "classwise_calibration_error": Case(
        lambda inputs: (*inputs.predictions(), inputs.pick(1, 3, 10, 15)), oracles.classwise_calibration_error
    ),
    "confidence_accuracy_correlation": Case(Inputs.top_and_bins, oracles.confidence_accuracy_correlation),
    "cosine_distance": Case(lambda inputs: (inputs.unit(inputs.rows),), lambda cosines: (1 - cosines) / 2),
    "disagreement": Case(lambda inputs: (inputs.logits(inputs.number(1, 4)),), oracles.disagreement),
    "coverage_threshold": Case(
        lambda inputs: (*inputs.decisions_of_both_kinds()[:3], inputs.pick(0.1, 0.5, 0.95, 1.0), inputs.pick(*BOTH)),
        oracles.coverage_threshold,
    ),
    "conformal_quantile": Case(Inputs.known_predictions, check=check_quantile),
    "nonconformity": Case(
        Inputs.predictions,
        lambda probabilities, labels: np.sort(
            [1 - float(row[label]) for row, label in zip(probabilities, labels, strict=True) if label != -1]
        ),
    ),
    "level_quantile": Case(
        lambda inputs: (inputs.unit(inputs.rows + 1).sort().values, inputs.pick(0.25, 0.5, 0.75)),
        check=lambda quantile, unlikely, level: check_level_quantile(quantile, unlikely.tolist(), level),
    ),
    "prediction_set": Case(
        lambda inputs: (inputs.unit(inputs.rows, inputs.classes), inputs.pick(0.0, 0.3, 0.7, 1.0)),
        lambda probabilities, quantile: np.array(
            [[1 - float(p) <= quantile for p in row] for row in probabilities], bool
        ).reshape(probabilities.shape),
    ),
    "e_mixup": Case(Inputs.batch, oracles.e_mixup),
    "e_stitchup": Case(Inputs.stitched_batch, oracles.e_stitchup),
    "energy_score": Case(
        lambda inputs: (inputs.logits(),), lambda logits: -special.logsumexp(logits.astype(float), axis=1)
    ),
    "entropy_score": Case(lambda inputs: (inputs.logits(),), oracles.entropy_score),
    "expected_calibration_error": Case(Inputs.top_and_bins, oracles.expected_calibration_error),
    "fit_gaussians": Case(lambda inputs: (*inputs.labelled(), inputs.pick(0.1, 1.0, None)), check=check_gaussians),
    "fit_isotonic": Case(Inputs.validation, check=check_isotonic),
    "fit_logit_norm": Case(Inputs.validation, check=check_logit_norm),
    "fit_platt": Case(
        lambda inputs: (
            inputs.lay_out(inputs.source.normal(0, inputs.pick(0.1, 3), inputs.rows + 1)),
            inputs.flags(inputs.rows + 1),
        ),
        check=check_platt,
    ),
    "fit_temperature": Case(
        lambda inputs: (
            inputs.lay_out(inputs.source.normal(0, inputs.pick(0.1, 1, 20), (inputs.rows + 1, inputs.classes))),
            inputs.integers(0, inputs.classes, inputs.rows + 1),
        ),
        check=check_temperature,
    ),
    "fit_top_temperature": Case(Inputs.validation, check=check_top_temperature),
    "fit_vector_scaling": Case(
        lambda inputs: (*inputs.validation(), inputs.pick(0.1, 1.0, 10.0)), check=check_vector_scaling
    ),
    "interpolate": Case(
        lambda inputs: (inputs.logits(), *(part.to(inputs.dtype) for part in inputs.isotonic_map()[:2])),
        check=close_to(lambda at, knots, values: np.interp(at, knots, values)),
    ),
    "k_nearest": Case(
        Inputs.queries_and_bank,
        check=close_to(lambda rows, bank, k: oracles.k_nearest(oracles.unit_length(rows), bank, k)),
    ),
    "known_rows": Case(Inputs.validation, check=check_known_rows),
    "mahalanobis_distance": Case(Inputs.gaussians, gaussian_oracle),
    "max_logit_score": Case(lambda inputs: (inputs.logits(),), lambda logits: -logits.max(axis=1)),
    "mean_logits": Case(lambda inputs: (inputs.logits(inputs.number(1, 3)),), check=close_to(oracles.mean_logits)),
    "least_cost_threshold": Case(
        lambda inputs: (
            *inputs.decisions_of_both_kinds()[:3],
            *(inputs.pick(0.0, 0.2, 1.0, 3.0) for _ in range(3)),
            inputs.pick(None, 0.3),
        ),
        check=check_least_cost,
    ),
    "modality_stitch": Case(Inputs.modality_batch, oracles.modality_stitch),
    "moments": Case(
        lambda inputs: (inputs.lay_out(inputs.source.normal(0, 1, (inputs.classes, inputs.rows + 1))),), oracles.moments
    ),
    "nearest_mean_distance": Case(
        lambda inputs: inputs.queries_and_bank()[:2], check=close_to(oracles.nearest_mean_distance)
    ),
    "neighbor_distance": Case(Inputs.queries_and_bank, check=close_to(oracles.neighbor_distance)),
    "normalize_logits": Case(
        lambda inputs: (inputs.logits(), inputs.number(0, 10)), check=close_to(oracles.normalize_logits)
    ),
    "none_aware_accuracy": Case(
        lambda inputs: (*inputs.predictions(), inputs.pick(*TIES, np.nan), inputs.scores()), oracles.none_aware_accuracy
    ),
    "none_score": Case(lambda inputs: (inputs.unit(inputs.rows, inputs.classes),), oracles.none_score),
    "ranking_scores": Case(Inputs.scored, oracles.ranking_scores),
    "reject": Case(
        lambda inputs: (inputs.unit(inputs.rows, inputs.classes), inputs.pick(*TIES, np.nan), inputs.scores()),
        oracles.reject,
    ),
    "relative_mahalanobis_distance": Case(
        lambda inputs: (*inputs.gaussians(), inputs.gaussians()[1]), check=check_relative_distance
    ),
    "reliability_bins": Case(Inputs.top_and_bins, oracles.reliability_bins),
    "row_scores": Case(Inputs.scored, oracles.row_scores),
    "sample_lambda": Case(
        lambda inputs: ((2, 300), inputs.lay_out([[inputs.pick(0.2, 0.4)], [inputs.pick(1.0, 8.0)]])),
        check=check_lambda,
        options=lambda inputs: {"generator": inputs.generator(), "dtype": inputs.dtype},
    ),
    "sample_pairs": Case(
        lambda inputs: ((*inputs.pick((), (3,)), inputs.rows + 1),),
        check=check_pairs,
        options=lambda inputs: {"generator": inputs.generator()},
    ),
    "sample_stitch_mask": Case(
        lambda inputs: (inputs.unit(*inputs.pick((), (2,)), inputs.rows), inputs.pick(1, 50)),
        check=check_mask,
        options=lambda inputs: {"generator": inputs.generator()},
    ),
    "select_threshold": Case(Inputs.decisions_of_both_kinds, check=check_threshold),
    "shrunk_covariance": Case(
        lambda inputs: (inputs.vectors(inputs.rows + 2, 3), inputs.pick(0.1, 1.0, None)), oracles.shrunk_covariance
    ),
    "soften_labels": Case(lambda inputs: (inputs.batch()[1], inputs.pick(0.0, 0.1, 0.25, 1.0)), oracles.soften_labels),
    "squash": Case(lambda inputs: (inputs.logits(),), lambda x: (1 + x / (1 + np.abs(x.astype(float)))) / 2),
    "sum_of_z_scores": Case(Inputs.standardized, oracles.sum_of_z_scores),
    "support_weighted_mean": Case(
        lambda inputs: (
            inputs.lay_out(inputs.source.choice([np.nan, 0.25, 1.0], inputs.rows)),
            inputs.integers(0, 3, inputs.rows),
        ),
        oracles.weighted_mean,
    ),
    "threshold_curves": Case(
        lambda inputs: (*inputs.decisions(), inputs.lay_out(TIES, torch.float64)), oracles.threshold_curves
    ),
    "threshold_interval": Case(
        lambda inputs: (
            functional.select_threshold,
            *inputs.decisions_of_both_kinds()[:3],
            inputs.integers(0, 3, inputs.rows),
        ),
        check=check_interval,
        options=lambda _: {"resamples": 3},
    ),
    "top_label": Case(Inputs.predictions, oracles.top_label),
    "unit_length": Case(lambda inputs: (inputs.vectors(inputs.rows, 3),), check=close_to(oracles.unit_length)),
    "weighted_aupr": Case(Inputs.scored, lambda *rows: oracles.weighted_auroc_aupr(*rows)[1]),
    "weighted_auroc": Case(Inputs.scored, lambda *rows: oracles.weighted_auroc_aupr(*rows)[0]),
    "weighted_auroc_aupr": Case(Inputs.scored, oracles.weighted_auroc_aupr),
}


def over_top_label(oracle: Callable[..., Any], known_only: bool = False) -> Callable[..., Any]:
    def expected(probabilities: np.ndarray, labels: np.ndarray, none_scores: np.ndarray | None) -> Any:
        kept = (labels != -1) | (not known_only)
        return oracle(*oracles.top_label(probabilities[kept], labels[kept]))

    return expected


METRICS: dict[str, list[tuple[Metric, Callable[..., Any]]]] = {
    "AcceptedAccuracy": [
        (
            metrics.AcceptedAccuracy(threshold),
            lambda *rows, threshold=threshold: oracles.over_decisions(oracles.accepted_accuracy, *rows, threshold),
        )
        for threshold in (0.5, np.nan)
    ],
    "BrierScore": [(metrics.BrierScore(), lambda *rows: oracles.brier_score(*rows[:2]))],
    "NegativeLogLikelihood": [
        (metrics.NegativeLogLikelihood(), lambda *rows: oracles.negative_log_likelihood(*rows[:2]))
    ],
    "NoneDetection": [(metrics.NoneDetection(), lambda *rows: oracles.none_detection_of(*rows)[:2])],
    "NoneFalsePositives": [(metrics.NoneFalsePositives(), lambda *rows: oracles.none_detection_of(*rows)[2:])],
    "SelectiveRisk": [(metrics.SelectiveRisk(), lambda *rows: oracles.over_decisions(oracles.risk_areas, *rows))],
    "AdaptiveCalibrationError": [
        (metrics.AdaptiveCalibrationError(), over_top_label(oracles.adaptive_calibration_error))
    ],
    "ClasswiseCalibrationError": [
        (metrics.ClasswiseCalibrationError(), lambda *rows: np.mean(oracles.classwise_calibration_error(*rows[:2])))
    ],
    "ConfidenceAccuracyCorrelation": [
        (
            metrics.ConfidenceAccuracyCorrelation(known_only=known_only),
            over_top_label(oracles.confidence_accuracy_correlation, known_only),
        )
        for known_only in (False, True)
    ]
    + [
        (
            metrics.ConfidenceAccuracyCorrelation(weighted=True),
            over_top_label(lambda *rows: oracles.weighted_correlation(*oracles.reliability_bins(*rows))),
        )
    ],
    "ExpectedCalibrationError": [
        (
            metrics.ExpectedCalibrationError(known_only=known_only),
            over_top_label(oracles.expected_calibration_error, known_only),
        )
        for known_only in (False, True)
    ],
    "NoneAwareAccuracy": [
        (
            metrics.NoneAwareAccuracy(threshold),
            lambda *rows, threshold=threshold: oracles.none_aware_accuracy(*rows[:2], threshold, rows[2]),
        )
        for threshold in (0.5, np.nan)
    ],
    "ReliabilityDiagram": [(metrics.ReliabilityDiagram(), over_top_label(oracles.reliability_bins))],
    "TopOneAccuracy": [(metrics.TopOneAccuracy(), lambda *rows: oracles.none_aware_accuracy(*rows[:2], np.nan)[1])],
    "WeightedAUPR": [(metrics.WeightedAUPR(), lambda *rows: oracles.weighted_auroc_aupr(*rows)[1])],
    "WeightedAUROC": [(metrics.WeightedAUROC(), lambda *rows: oracles.weighted_auroc_aupr(*rows)[0])],
    "WeightedRanking": [(metrics.WeightedRanking(), oracles.weighted_auroc_aupr)],
}
OTHER_METRICS = {"RowMetric", "ThresholdMetric", "NoneMetric", "ConfidenceThreshold"}
"""The base classes, and the one whose rows must hold both kinds, which has a test of its own below."""


def as_numpy(values: Any) -> Any:
    return tree_map(lambda leaf: leaf.numpy() if isinstance(leaf, Tensor) else leaf, values)


def storage_of(values: Any) -> list[Tensor]:
    tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
    return [torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage()).clone() for tensor in tensors]


def assert_equal(got: Any, expected: Any) -> None:
    got, expected = tree_leaves(got), tree_leaves(expected)
    for value, wanted in zip(got, expected, strict=True):
        wanted = np.asarray(wanted)
        assert value.shape == wanted.shape
        tolerance = 32 * torch.finfo(value.dtype).eps if value.is_floating_point() else 0
        np.testing.assert_allclose(value.numpy(), wanted, rtol=max(tolerance, 1e-12), atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", FUNCTIONS)
@given(data=st.data())
@FEWER
def test_equals_its_oracle_and_leaves_its_inputs_alone(name: str, precision: str, data: st.DataObject) -> None:
    case, inputs = FUNCTIONS[name], Inputs(data, PRECISIONS[precision])
    arguments, options = case.arguments(inputs), case.options(inputs)
    before = storage_of(arguments)
    got = getattr(functional, name)(*arguments, **options)
    assert all(map(torch.equal, before, storage_of(arguments)))
    if case.check is not None:
        case.check(got, *arguments, **options)
    else:
        assert_equal(got, case.oracle(*as_numpy(arguments)))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", METRICS)
@given(data=st.data())
@FEWER
def test_metric_equals_its_oracle_and_leaves_its_inputs_alone(name: str, precision: str, data: st.DataObject) -> None:
    inputs = Inputs(data, PRECISIONS[precision])
    inputs.rows += 1
    preds, target = inputs.predictions()
    scores = inputs.scores()
    shown = torch.from_numpy(inputs.source.permutation([*range(inputs.rows), 0]))
    batches = [(preds[rows], target[rows], rows, None if scores is None else scores[rows]) for rows in shown.split(5)]
    before = storage_of([preds, target, scores, batches])
    for metric, oracle in METRICS[name]:
        metric.reset()
        for batch in batches:
            metric.update(*batch)
        got = metric.compute()
        assert all(map(torch.equal, before, storage_of([preds, target, scores, batches])))
        wanted = oracle(*as_numpy((preds, target, scores)))
        assert_equal(list(got.values()) if isinstance(got, dict) else got, wanted)


@pytest.mark.parametrize("precision", PRECISIONS)
@given(data=st.data())
def test_threshold_metric_selects_what_the_oracle_does(precision: str, data: st.DataObject) -> None:
    inputs = Inputs(data, PRECISIONS[precision])
    confidence, predicted, labels, heuristic = inputs.decisions_of_both_kinds()
    confidence = confidence.clamp(min=0.1)  # so that the class of the greatest is the one predicted
    preds = torch.zeros(len(labels), inputs.classes, dtype=confidence.dtype)
    preds = preds.scatter(1, predicted.unsqueeze(1), confidence.unsqueeze(1))
    scores = inputs.scores()
    before = storage_of([preds, labels, scores])
    metric = metrics.ConfidenceThreshold(heuristic)
    metric.update(preds, labels, none_scores=scores)
    accepted = confidence if scores is None else torch.from_numpy(oracles.acceptance(preds.numpy(), scores.numpy()))
    check_threshold(metric.compute(), accepted, predicted, labels, heuristic)
    assert all(map(torch.equal, before, storage_of([preds, labels, scores])))


def test_every_public_function_and_metric_is_in_the_tables() -> None:
    public = {name: getattr(functional, name) for name in functional.__all__}
    functions = {name for name, value in public.items() if callable(value) and not isinstance(value, type)}
    assert functions - {"Heuristic"} == set(FUNCTIONS)
    classes = {name for name, value in vars(metrics).items() if isinstance(value, type) and issubclass(value, Metric)}
    assert {name for name in classes if not name.startswith("_")} - {"Metric"} == set(METRICS) | OTHER_METRICS

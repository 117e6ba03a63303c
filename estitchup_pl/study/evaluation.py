"""From the predictions that a study has kept to its results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from estitchup_pl.batch import NONE
from estitchup_pl.errors import ConfigError, did_you_mean
from estitchup_pl.metrics import (
    AdaptiveCalibrationError,
    BrierScore,
    ClasswiseCalibrationError,
    NegativeLogLikelihood,
    ThresholdMetric,
    TopOneAccuracy,
    default_metrics,
)
from estitchup_pl.study.building import told
from estitchup_pl.study.folder import RESULT_SCHEMA, RunRecord, StudyFolder

CONVERGED = 0.99
"""Share of the best accuracy of a curve at which a fit counts as converged (Fig. 5)."""


def study_metrics() -> dict[str, Metric]:
    """Metrics of a study by name: those of an evaluation, and those that only a comparison asks for.

    A :class:`~estitchup_pl.metrics.ThresholdMetric` is computed at the threshold of each heuristic, every other one
    once.

    Example:
        >>> sorted(set(study_metrics()) - set(default_metrics()))
        ['accuracy_top1_id', 'adaptive_ece', 'brier', 'classwise_ece', 'nll']
    """
    return {
        **default_metrics(),
        "classwise_ece": ClasswiseCalibrationError(),
        "adaptive_ece": AdaptiveCalibrationError(),
        "accuracy_top1_id": TopOneAccuracy(),
        "brier": BrierScore(),
        "nll": NegativeLogLikelihood(),
    }


def evaluate(folder: StudyFolder, metrics: Mapping[str, Metric] | None = None) -> pa.Table:
    """Compute every metric of every run that has not diverged, see :data:`~estitchup_pl.study.folder.RESULT_SCHEMA`.

    Args:
        folder: Folder of the study.
        metrics: Metrics by name; :func:`study_metrics` if not given.
    """
    header, metrics = folder.header, study_metrics() if metrics is None else metrics
    rows = [
        {"study": header["name"], "method": method, "trial": trial, "split": "test", "metric": metric, "value": value}
        for method in header["methods"]
        for trial in header["trials"]
        if not folder.record(method, trial).diverged
        for metric, value in run_metrics(folder, method, trial, metrics)
    ]
    return pa.Table.from_pylist(rows, RESULT_SCHEMA)


def run_metrics(
    folder: StudyFolder, method: str, trial: int, metrics: Mapping[str, Metric]
) -> Iterator[tuple[str, float]]:
    """Metrics of one run and their values."""
    record, predictions = folder.record(method, trial), folder.predictions(method, trial)
    labels, scores, (plain, at_threshold) = predictions.labels, predictions.none_scores, by_threshold(metrics)
    rows = torch.tensor(predictions.rows)
    for name, value in compute(plain, predictions.probabilities.double(), labels, scores, rows).items():
        if "/" not in name or not math.isnan(value):  # of a group of "none" without a row in this trial
            yield name, value
    for heuristic, threshold in record.thresholds.items():
        yield f"threshold/{heuristic}", threshold
        for metric in at_threshold.values():
            metric.threshold = threshold
        # In float32, as the threshold was chosen: it stands between two confidences of that precision.
        for name, value in compute(at_threshold, predictions.probabilities, labels, scores).items():
            yield f"{name}/{heuristic}", value
    yield from _facts(folder, record, labels)


def by_threshold(metrics: Mapping[str, Metric]) -> tuple[dict[str, Metric], dict[str, ThresholdMetric]]:
    """Part metrics that need no threshold from those at one."""
    at_threshold = {name: metric for name, metric in metrics.items() if isinstance(metric, ThresholdMetric)}
    return {name: metric for name, metric in metrics.items() if name not in at_threshold}, at_threshold


def compute(
    metrics: Mapping[str, Metric],
    probabilities: Tensor,
    labels: Tensor,
    none_scores: Tensor | None = None,
    rows: Tensor | None = None,
) -> dict[str, float]:
    """Compute metrics, whatever they were shown before; one that returns several values gives each by its name.

    Args:
        metrics: Metrics by name.
        probabilities: Float ``(rows, classes)`` in ``[0, 1]``.
        labels: Class index or ``NONE``, int64 ``(rows,)``.
        none_scores: Score of "none" in ``[0, 1]``, float ``(rows,)``; one minus the greatest probability (the
            paper's) if not given.
        rows: Rows of the store, int64 ``(rows,)``, for what speaks of groups of them.
    """
    if not metrics:
        return {}
    collection = MetricCollection(dict(metrics), compute_groups=False)
    collection.reset()
    given = {name: each for name, each in (("none_scores", none_scores), ("rows", rows)) if each is not None}
    collection.update(probabilities, labels, **given)
    values: dict[str, Any] = collection.compute()
    collection.reset()
    return {name: float(value) for name, value in values.items()}


def directions(metrics: Mapping[str, Metric]) -> dict[str, bool | None]:
    """Try each metric on a few rows: the names of its values, and whether a higher one is better.

    Raises:
        ConfigError: If a metric fails, or returns what is no number.
    """
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(60, 3, generator=generator)
    labels = torch.randint(NONE, 3, (60,), generator=generator)
    found: dict[str, bool | None] = {}
    for name, metric in metrics.items():
        with told(f"metrics.{name}"):
            found |= dict.fromkeys(compute({name: metric}, probabilities, labels), metric.higher_is_better)
    return found


@dataclass(frozen=True)
class Criterion:
    """What candidates are compared by.

    Attributes:
        name: Name of the value.
        metric: The metric that returns it.
        higher_is_better: Whether the greatest is the best, or the least.
    """

    name: str
    metric: Metric
    higher_is_better: bool

    @classmethod
    def of(cls, name: str, metrics: Mapping[str, Metric], option: str = "selection.metric") -> Criterion:
        """Find the metric that returns the value of this name.

        Args:
            name: The name.
            metrics: Metrics by name.
            option: What names it, for messages.

        Raises:
            ConfigError: If there is none, it needs a threshold, or does not say whether a higher value is better.
        """
        plain, _ = by_threshold(metrics)
        known = {value: metric for one, metric in plain.items() for value in directions({one: metric})}
        if name not in known:
            raise ConfigError(
                f"{option}: there is no metric {name!r} that needs no threshold{did_you_mean(name, known)}; "
                f"there are: {', '.join(known)}"
            )
        higher = known[name].higher_is_better
        if higher is None:
            raise ConfigError(
                f"{option}: {type(known[name]).__name__} does not say whether a higher value is better; set "
                "its higher_is_better to True or False"
            )
        return cls(name, known[name], higher)

    def score(self, probabilities: Tensor, labels: Tensor, none_scores: Tensor | None = None) -> float:
        """Value on the predictions of a candidate; NaN where it is undefined."""
        return compute({self.name: self.metric}, probabilities, labels, none_scores)[self.name]

    def best(self, scored: list[dict[str, Any]]) -> dict[str, Any]:
        """Entry with the best ``score``, the first of equals."""
        return (max if self.higher_is_better else min)(scored, key=lambda entry: entry["score"])


def epochs_to_convergence(epochs: list[int], accuracies: list[float]) -> int:
    """First epoch whose accuracy is within 1 % of the best.

    Example:
        >>> epochs_to_convergence([12, 24, 36], [0.5, 0.895, 0.9])
        24
    """
    return epochs[int(np.argmax(np.asarray(accuracies) >= CONVERGED * max(accuracies)))]


def _facts(folder: StudyFolder, record: RunRecord, labels: Tensor) -> Iterator[tuple[str, float]]:
    curve = folder.curve(record.method, record.trial)
    if curve is not None:
        converged = epochs_to_convergence(curve["epoch"].to_pylist(), curve["accuracy"].to_pylist())
        yield "epochs_to_convergence", float(converged)
    yield "train_rows", float(record.train_rows)
    yield "none_rows", float(torch.sum(labels == NONE))

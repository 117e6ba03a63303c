"""From the predictions that a study has kept to its results."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from estitchup_pl.batch import NONE
from estitchup_pl.functional import (
    adaptive_calibration_error,
    classwise_calibration_error,
    confidence_accuracy_correlation,
    expected_calibration_error,
    none_aware_accuracy,
    top_label,
    weighted_aupr,
    weighted_auroc,
    weighted_auroc_aupr,
)
from estitchup_pl.study.config import Metric
from estitchup_pl.study.folder import RESULT_SCHEMA, RunRecord, StudyFolder

CONVERGED = 0.99
"""Share of the best accuracy of a curve at which a fit counts as converged (Fig. 5)."""


def evaluate(folder: StudyFolder) -> pa.Table:
    """Compute every metric of every run that has not diverged, see :data:`~estitchup_pl.study.folder.RESULT_SCHEMA`."""
    header = folder.header
    rows = [
        {"study": header["name"], "method": method, "trial": trial, "split": "test", "metric": metric, "value": value}
        for method in header["methods"]
        for trial in header["trials"]
        if not folder.record(method, trial).diverged
        for metric, value in run_metrics(folder, method, trial)
    ]
    return pa.Table.from_pylist(rows, RESULT_SCHEMA)


def run_metrics(folder: StudyFolder, method: str, trial: int) -> Iterator[tuple[str, float]]:
    """Metrics of one run and their values."""
    record = folder.record(method, trial)
    predictions = folder.predictions(method, trial)
    probabilities, labels = predictions.probabilities.double(), predictions.labels
    for name, value in prediction_metrics(probabilities, labels):
        yield name, float(value)
    for heuristic, threshold in record.thresholds.items():
        # In float32, as the threshold was chosen: it stands between two confidences of that precision.
        accuracies = none_aware_accuracy(predictions.probabilities, labels, threshold)
        yield f"threshold/{heuristic}", threshold
        for name in ("accuracy_id", "accuracy_none", "accuracy"):
            yield f"{name}/{heuristic}", float(getattr(accuracies, name))
    yield from _facts(folder, record, labels)


def prediction_metrics(probabilities: Tensor, labels: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Metrics that need no threshold: of ranking, of calibration, and top-one accuracy over known rows.

    Args:
        probabilities: Float ``(rows, classes)`` in ``[0, 1]``.
        labels: Class index or ``NONE``, int64 ``(rows,)``.
    """
    confidence, correct = top_label(probabilities, labels)
    known = labels != NONE
    auroc, aupr = weighted_auroc_aupr(probabilities, labels)
    yield "auroc", auroc
    yield "aupr", aupr
    yield "correlation", confidence_accuracy_correlation(confidence, correct)
    yield "correlation_id", confidence_accuracy_correlation(confidence[known], correct[known])
    yield "ece", expected_calibration_error(confidence, correct)
    yield "classwise_ece", classwise_calibration_error(probabilities, labels).mean()
    yield "adaptive_ece", adaptive_calibration_error(confidence, correct)
    yield "accuracy_top1_id", correct[known].double().mean()


def selection_score(metric: Metric, logits: Tensor, labels: Tensor) -> float:
    """Score of a candidate, the higher the better; NaN where it is undefined."""
    probabilities = logits.float().sigmoid()
    if metric in ("aupr", "auroc"):
        return float((weighted_aupr if metric == "aupr" else weighted_auroc)(probabilities, labels))
    confidence, correct = top_label(probabilities, labels)
    if metric == "ece":
        return -float(expected_calibration_error(confidence, correct))
    return float(confidence_accuracy_correlation(confidence, correct))


def epochs_to_convergence(epochs: list[int], accuracies: list[float]) -> int:
    """First epoch whose accuracy is within 1 % of the best.

    Example:
        >>> epochs_to_convergence([12, 24, 36], [0.5, 0.895, 0.9])
        24
    """
    return epochs[int(np.argmax(np.asarray(accuracies) >= CONVERGED * max(accuracies)))]


def _facts(folder: StudyFolder, record: RunRecord, labels: Tensor) -> Iterator[tuple[str, float]]:
    curve = folder.curve(record.method, record.trial)
    if curve is not None and len(curve):
        converged = epochs_to_convergence(curve["epoch"].to_pylist(), curve["accuracy"].to_pylist())
        yield "epochs_to_convergence", float(converged)
    yield "temperature", record.temperature
    yield "train_rows", float(record.train_rows)
    yield "none_rows", float(torch.sum(labels == NONE))

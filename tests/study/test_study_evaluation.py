"""Results are what other libraries compute from the kept predictions."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from estitchup_pl.batch import NONE
from estitchup_pl.study import StudyConfig, StudyFolder
from estitchup_pl.study.evaluation import epochs_to_convergence


def metrics(folder: StudyFolder, method: str, trial: int) -> dict[str, float]:
    table = folder.results()
    table = table.filter(pc.and_(pc.equal(table["method"], method), pc.equal(table["trial"], trial)))
    assert set(table["split"].to_pylist()) == {"test"}
    return dict(zip(table["metric"].to_pylist(), table["value"].to_pylist(), strict=True))


def test_ranking_equals_scikit_learn_on_the_kept_predictions(folder: StudyFolder, config: StudyConfig):
    for method in config.methods:
        predictions = folder.predictions(method, 1)
        scores = predictions.probabilities.double().numpy()
        scores = np.column_stack([scores, -scores.max(1)])
        labels = np.where(predictions.labels == NONE, scores.shape[1] - 1, predictions.labels)
        hits = np.eye(scores.shape[1])[labels]
        found = metrics(folder, method, 1)
        assert found["auroc"] == pytest.approx(roc_auc_score(hits, scores, average="weighted"), abs=1e-9)
        assert found["aupr"] == pytest.approx(average_precision_score(hits, scores, average="weighted"), abs=1e-9)


def test_accuracies_equal_counting_row_by_row(folder: StudyFolder):
    predictions, found = folder.predictions("E-Stitchup", 0), metrics(folder, "E-Stitchup", 0)
    probabilities, labels = predictions.probabilities.numpy(), predictions.labels.numpy()
    for heuristic in ("intersection", "tp_ratio"):
        threshold = np.float32(found[f"threshold/{heuristic}"])
        decided = np.where(probabilities.max(1) > threshold, probabilities.argmax(1), NONE)
        for name, rows in (("", labels == labels), ("_id", labels != NONE), ("_none", labels == NONE)):
            expected = (decided == labels)[rows].mean()
            assert found[f"accuracy{name}/{heuristic}"] == pytest.approx(expected)
    known = labels != NONE
    assert found["accuracy_top1_id"] == pytest.approx((probabilities.argmax(1) == labels)[known].mean())
    assert found["none_rows"] == (~known).sum()
    assert found["train_rows"] == folder.trial(0)["part"].to_pylist().count("train")


def test_calibration_and_facts_are_there_for_every_run(folder: StudyFolder, config: StudyConfig):
    expected = {"correlation", "correlation_id", "ece", "classwise_ece", "adaptive_ece", "temperature"}
    for method in config.methods:
        found = metrics(folder, method, 0)
        assert expected <= found.keys()
        assert ("epochs_to_convergence" in found) == (method in ("Control", "E-Stitchup", "Scaled"))


def test_the_curve_ends_where_the_final_fit_does(folder: StudyFolder):
    curve, found = folder.curve("Control", 0).to_pydict(), metrics(folder, "Control", 0)
    assert curve["epoch"] == [2, 4]
    for name in ("accuracy", "accuracy_id", "accuracy_none"):  # digits are few: the curve is over all test rows
        assert curve[name][-1] == pytest.approx(found[f"{name}/intersection"], abs=2e-3)


def test_convergence_is_the_first_epoch_near_the_best():
    assert epochs_to_convergence([12, 24, 36, 48], [0.2, 0.8, 0.9, 0.899]) == 36
    assert epochs_to_convergence([12], [0.0]) == 12

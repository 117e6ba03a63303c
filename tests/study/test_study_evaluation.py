"""Results are what other libraries compute from the kept predictions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import oracles
import pyarrow.compute as pc
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score
from small import digits_config

from estitchup_pl.batch import NONE
from estitchup_pl.errors import ConfigError
from estitchup_pl.functional import acceptance
from estitchup_pl.metrics import NoneAwareAccuracy, ReliabilityDiagram, RowMetric
from estitchup_pl.report import study_tables
from estitchup_pl.study import StudyConfig, StudyFolder, evaluate, study_metrics
from estitchup_pl.study.evaluation import Criterion, compute, directions, epochs_to_convergence, run_metrics
from estitchup_pl.study.study import Study


def metrics(folder: StudyFolder, name: str, trial: int) -> dict[str, float]:
    table = folder.results()
    table = table.filter(pc.and_(pc.equal(table["method"], name), pc.equal(table["trial"], trial)))
    assert set(table["split"].to_pylist()) == {"test"}
    return dict(zip(table["metric"].to_pylist(), table["value"].to_pylist(), strict=True))


def test_every_metric_is_what_numpy_and_scikit_learn_compute_from_the_kept_logits(
    folder: StudyFolder, config: StudyConfig
):
    distinct = []
    for method in config.methods:
        table = folder.trial(1).filter(pc.equal(folder.trial(1)["part"], "test"))
        position = {name: index for index, name in enumerate(folder.record(method, 1).class_names)}
        labels = np.array([position.get(label, NONE) for label in table["label"].to_pylist()])
        logits = np.load(folder.run_path(method, 1) / "logits.npy").astype(np.float32)
        probabilities = expit(logits).astype(np.float64)
        confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
        known = labels != NONE
        kept = folder.read_scores(method, 1, "none_scores")
        none = -confidence if kept is None else kept.astype(np.float64)
        accepted = confidence if kept is None else (1 - none).astype(np.float32)
        scores = np.column_stack([probabilities, none])
        hits = np.eye(scores.shape[1])[np.where(known, labels, scores.shape[1] - 1)]
        expected = {
            "auroc": roc_auc_score(hits, scores, average="weighted"),
            "aupr": average_precision_score(hits, scores, average="weighted"),
            "ece": oracles.expected_calibration_error(confidence, correct),
            "adaptive_ece": oracles.adaptive_calibration_error(confidence, correct),
            "ece_id": oracles.expected_calibration_error(confidence[known], correct[known]),
            "correlation_weighted": oracles.weighted_correlation(*oracles.reliability_bins(confidence, correct)),
            "none_auroc": roc_auc_score(~known, none),
            "none_ap": average_precision_score(~known, none),
            "none_fpr95": oracles.none_detection(none, labels)[2],
            "aurc": oracles.risk_areas(accepted, correct)[0],
            "augrc": oracles.risk_areas(accepted, correct)[1],
            "brier": oracles.brier_score(probabilities, labels),
            "nll": oracles.negative_log_likelihood(probabilities, labels),
            "classwise_ece": oracles.classwise_calibration_error(probabilities, labels).mean(),
            "correlation": oracles.confidence_accuracy_correlation(confidence, correct),
            "correlation_id": oracles.confidence_accuracy_correlation(confidence[known], correct[known]),
            "accuracy_top1_id": correct[known].mean(),
            "none_rows": (~known).sum(),
            "train_rows": folder.trial(1)["part"].to_pylist().count("train"),
        }
        found = metrics(folder, method, 1)
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, abs=1e-6, nan_ok=True), (method, name)
        distinct.append(len({round(float(value), 5) for value in expected.values()}))
    assert max(distinct) == len(expected)  # so that no two could be taken for each other


def test_a_none_score_stands_in_the_column_of_none():
    probabilities, labels = torch.tensor([[0.9, 0.1], [0.2, 0.6], [0.7, 0.1]]), torch.tensor([0, 1, NONE])
    scores = torch.tensor([0.1, 0.2, 0.8])
    hits, columns = np.eye(3)[labels.numpy()], np.column_stack([probabilities, scores])
    expected = average_precision_score(hits, columns, average="weighted")
    values = compute(study_metrics(), probabilities, labels, scores)
    assert values["aupr"] == pytest.approx(expected)
    assert values["aupr"] != pytest.approx(compute(study_metrics(), probabilities, labels)["aupr"])
    assert Criterion.of("aupr", study_metrics()).score(probabilities, labels, scores) == pytest.approx(expected)


def test_groups_of_none_are_scored_by_themselves(folder: StudyFolder, config: StudyConfig):
    """By label: eights and nines are "none", each against all known digits."""
    study = Study(replace(config, none_groups="label"), folder)
    predictions = folder.predictions("Control", 0)
    table = folder.trial(0).filter(pc.equal(folder.trial(0)["part"], "test"))
    confidence, names = predictions.probabilities.double().amax(1).numpy(), np.array(table["label"].to_pylist())
    found = dict(run_metrics(folder, "Control", 0, study.metrics))
    for group in ("eight", "nine"):
        kept = (predictions.labels.numpy() != NONE) | (names == group)
        expected = roc_auc_score(names[kept] == group, -confidence[kept])
        assert found[f"none_auroc/{group}"] == pytest.approx(expected)
    assert {name for name in found if name.startswith("none_auroc/")} == {"none_auroc/eight", "none_auroc/nine"}
    assert not [name for name in metrics(folder, "Control", 0) if name.startswith("none_auroc/")]


def test_accuracies_equal_counting_row_by_row(folder: StudyFolder):
    predictions, found = folder.predictions("E-Stitchup", 0), metrics(folder, "E-Stitchup", 0)
    probabilities, labels = predictions.probabilities.numpy(), predictions.labels.numpy()
    for heuristic in ("intersection", "tp_ratio"):
        threshold = np.float32(found[f"threshold/{heuristic}"])
        decided = np.where(probabilities.max(1) > threshold, probabilities.argmax(1), NONE)
        for name, rows in (("", labels == labels), ("_id", labels != NONE), ("_none", labels == NONE)):
            expected = (decided == labels)[rows].mean()
            assert found[f"accuracy{name}/{heuristic}"] == pytest.approx(expected)
        assert found[f"coverage/{heuristic}"] == pytest.approx((decided != NONE).mean())
        right = (decided == labels)[decided != NONE].mean()
        assert found[f"accuracy_accepted/{heuristic}"] == pytest.approx(right)


def test_facts_are_there_for_every_run(folder: StudyFolder, config: StudyConfig):
    for method in config.methods:
        found = metrics(folder, method, 0)
        assert ("epochs_to_convergence" in found) == (method in ("Control", "E-Stitchup"))


def test_the_curve_ends_where_the_final_fit_does(folder: StudyFolder):
    curve, found = folder.curve("Control", 0).to_pydict(), metrics(folder, "Control", 0)
    assert curve["epoch"] == [2, 4]
    for name in ("accuracy", "accuracy_id", "accuracy_none"):  # digits are few: the curve is over all test rows
        assert curve[name][-1] == pytest.approx(found[f"{name}/intersection"], abs=2e-3)


def test_convergence_is_the_first_epoch_near_the_best():
    assert epochs_to_convergence([12, 24, 36, 48], [0.2, 0.8, 0.9, 0.899]) == 36
    assert epochs_to_convergence([12], [0.0]) == 12


class Coverage(NoneAwareAccuracy):
    """A user's metric at the threshold: the share of rows that are not rejected."""

    def compute(self) -> torch.Tensor:
        preds, _ = self.predictions()
        return (preds.max(-1).values > self.threshold).double().mean()


class Worst(RowMetric):
    """A user's metric that returns two values: how sure the least sure decision is, and the surest."""

    higher_is_better = False

    def compute(self) -> dict[str, torch.Tensor]:
        confidence = self.predictions()[0].max(-1).values
        return {"least": confidence.min(), "most": confidence.max()}


def test_metrics_of_ones_own_are_computed_once_or_at_each_threshold(folder: StudyFolder):
    table = evaluate(folder, {"coverage": Coverage(), "confidence": Worst()})
    rows = [row for row in table.to_pylist() if (row["method"], row["trial"]) == ("Control", 0)]
    control = {row["metric"]: row["value"] for row in rows}
    confidence = folder.predictions("Control", 0).probabilities.max(-1).values
    thresholds = folder.record("Control", 0).thresholds
    for heuristic, threshold in thresholds.items():
        assert control[f"coverage/{heuristic}"] == pytest.approx(float((confidence > threshold).double().mean()))
    assert (control["least"], control["most"]) == (float(confidence.min()), float(confidence.max()))
    assert "coverage" not in control
    assert "auroc" not in control


@pytest.mark.parametrize("name", ["ece", "aupr", "least"])
def test_a_criterion_scores_by_its_metric_and_takes_the_end_that_is_better(name: str):
    generator = np.random.default_rng(0)
    labels = torch.from_numpy(generator.integers(NONE, 4, 200))
    probabilities = torch.from_numpy(expit(generator.normal(size=(200, 4))))
    criterion = Criterion.of(name, {**study_metrics(), "confidence": Worst()})
    top, correct = probabilities.max(-1).values.numpy(), (probabilities.argmax(-1) == labels).numpy()
    expected = {
        "ece": oracles.expected_calibration_error(top, correct),
        "aupr": oracles.weighted_auroc_aupr(probabilities.numpy(), labels.numpy())[1],
        "least": top.min(),
    }
    assert criterion.score(probabilities, labels) == pytest.approx(expected[name])
    entries = [{"score": 0.3}, {"score": 0.1}, {"score": 0.6}]
    assert criterion.best(entries)["score"] == {"ece": 0.1, "aupr": 0.6, "least": 0.1}[name]


def test_a_metric_that_fails_is_told_before_the_first_fit():
    with pytest.raises(ConfigError, match=r"^metrics\.diagram: "):
        directions({"diagram": ReliabilityDiagram()})
    with pytest.raises(ConfigError, match="there is no metric 'coverage' that needs no threshold"):
        Criterion.of("coverage", {"coverage": Coverage()})


def test_a_rule_of_the_study_finds_its_threshold_on_validation_rows_and_is_judged_on_test_rows(folder: StudyFolder):
    for name in ("Control", "Sum"):
        kept = [validation_acceptance(folder, name, split) for split in (0, 1)]
        threshold = folder.record(name, 0).thresholds["half"]
        assert np.mean(np.concatenate(kept) > threshold) == pytest.approx(0.5, abs=0.01)
        test = folder.predictions(name, 0)
        accepted = (acceptance(test.probabilities, test.none_scores) > threshold).double().mean()
        assert metrics(folder, name, 0)["coverage/half"] == pytest.approx(float(accepted), abs=1e-6)
    markdown = study_tables(folder).markdown()
    assert "## Table 3, half" in markdown
    assert "half" not in markdown[markdown.index("## Further metrics") :]


def validation_acceptance(folder: StudyFolder, name: str, split: int):
    logits = folder.read_logits(name, 0, f"threshold/{split}").astype(np.float32)
    scores = folder.read_scores(name, 0, f"threshold/{split}_none_scores")
    return expit(logits).max(1) if scores is None else 1 - scores


def test_a_rule_has_a_name_of_its_own_and_is_one():
    with pytest.raises(ConfigError, match="'tp_ratio' is the name of a heuristic"):
        digits_config(thresholds={"tp_ratio": {"class_path": "Coverage"}})
    with pytest.raises(ConfigError, match=r"thresholds\.costs"):
        digits_config(thresholds={"costs": {"class_path": "LeastCosts"}})

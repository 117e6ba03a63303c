"""Metrics: the functional layer over rows that are counted once, whatever the batches and processes."""

from __future__ import annotations

import copy
import math
import pickle
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor, multiprocessing
from torchmetrics import Metric, MetricCollection

from estitchup_pl import functional, metrics
from estitchup_pl.errors import ConfigError, DataError

CLASSES = 5


def draw_rows(rows: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    preds = torch.randn(rows, CLASSES, generator=source).mul(2).sigmoid()
    return preds, torch.randint(-1, CLASSES, (rows,), generator=source), torch.arange(rows)


def draw_scores(rows: int) -> Tensor:
    return torch.rand(rows, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def build_metrics() -> dict[str, Metric]:
    return {
        "auroc": metrics.WeightedAUROC(),
        "aupr": metrics.WeightedAUPR(),
        "ranking": metrics.WeightedRanking(),
        "accuracy": metrics.NoneAwareAccuracy(threshold=0.9),
        "correlation": metrics.ConfidenceAccuracyCorrelation(),
        "correlation_known": metrics.ConfidenceAccuracyCorrelation(known_only=True),
        "correlation_weighted": metrics.ConfidenceAccuracyCorrelation(weighted=True),
        "accepted": metrics.AcceptedAccuracy(threshold=0.9),
        "none": metrics.NoneDetection(),
        "none_fpr": metrics.NoneFalsePositives(),
        "risk": metrics.SelectiveRisk(),
        "brier": metrics.BrierScore(),
        "nll": metrics.NegativeLogLikelihood(),
        "diagram": metrics.ReliabilityDiagram(),
        "ece": metrics.ExpectedCalibrationError(),
        "ece_known": metrics.ExpectedCalibrationError(known_only=True),
        "adaptive": metrics.AdaptiveCalibrationError(),
        "classwise": metrics.ClasswiseCalibrationError(),
    }


def compute_expected(name: str, preds: Tensor, target: Tensor, scores: Tensor | None = None) -> object:
    confidence, correct = functional.top_label(preds, target)
    known, accepted = target >= 0, functional.acceptance(preds, scores)
    detection = functional.none_detection(1 - preds.double().amax(1) if scores is None else scores, target)
    auroc, aupr = functional.weighted_auroc_aupr(preds, target, scores)
    return {
        "auroc": auroc,
        "aupr": aupr,
        "ranking": {"auroc": auroc, "aupr": aupr},
        "accuracy": functional.none_aware_accuracy(preds, target, 0.9, scores)._asdict(),
        "top_one": functional.none_aware_accuracy(preds, target, 0.0)._asdict(),
        "correlation": functional.confidence_accuracy_correlation(confidence, correct, 10),
        "correlation_known": functional.confidence_accuracy_correlation(confidence[known], correct[known], 10),
        "correlation_weighted": functional.confidence_accuracy_correlation(confidence, correct, 10, weighted=True),
        "accepted": dict(
            zip(("accuracy_accepted", "coverage"), functional.accepted_accuracy(accepted, correct, 0.9), strict=True)
        ),
        "accept_all": dict(
            zip(("accuracy_accepted", "coverage"), functional.accepted_accuracy(accepted, correct, 0.0), strict=True)
        ),
        "none": {"none_auroc": detection.auroc, "none_ap": detection.average_precision},
        "none_fpr": {"none_fpr95": detection.fpr95},
        "risk": functional.risk_areas(accepted, correct)._asdict(),
        "brier": functional.brier_score(preds, target),
        "nll": functional.negative_log_likelihood(preds, target),
        "diagram": functional.reliability_bins(confidence, correct, 10),
        "ece": functional.expected_calibration_error(confidence, correct, 15),
        "ece_known": functional.expected_calibration_error(confidence[known], correct[known], 15),
        "adaptive": functional.adaptive_calibration_error(confidence, correct, 15),
        "classwise": functional.classwise_calibration_error(preds, target, 15).mean(),
    }[name]


def assert_equal(got: object, expected: object) -> None:
    torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", build_metrics())
class TestEveryMetric:
    def test_equals_the_function_on_all_rows(self, name):
        preds, target, rows = draw_rows(101)
        metric = build_metrics()[name]
        for batch in rows.split(32):
            metric.update(preds[batch], target[batch], rows[batch])
        assert_equal(metric.compute(), compute_expected(name, preds, target))

    @pytest.mark.parametrize("in_order", [True, False])
    def test_takes_a_none_score_of_each_row(self, name, in_order):
        preds, target, rows = draw_rows(101)
        scores = draw_scores(101)
        metric = build_metrics()[name]
        for batch in (rows if in_order else torch.cat([rows.flip(0), rows[:7]])).split(32):
            metric.update(preds[batch], target[batch], rows[batch], none_scores=scores[batch])
        assert_equal(metric.compute(), compute_expected(name, preds, target, scores))
        assert_equal(metric.none_scores(), scores)

    def test_counts_repeated_ids_once_in_any_order(self, name):
        preds, target, rows = draw_rows(60)
        others = 1 + torch.randperm(59, generator=torch.Generator().manual_seed(1))
        shown = torch.cat([torch.tensor([0]), others, torch.tensor([3, 3, 50])])
        metric = build_metrics()[name]
        for batch in shown.split(16):
            metric.update(preds[batch], target[batch], rows[batch])
        assert_equal(metric.compute(), compute_expected(name, preds, target))

    def test_counts_all_rows_without_ids(self, name):
        preds, target, _ = draw_rows(30)
        metric = build_metrics()[name]
        for _ in range(2):
            metric.update(preds, target)
        assert_equal(metric.compute(), compute_expected(name, preds.repeat(2, 1), target.repeat(2)))

    def test_forward_gives_the_batch_and_keeps_all(self, name):
        preds, target, rows = draw_rows(60)
        metric = build_metrics()[name]
        first = metric(preds[:40], target[:40], rows[:40])
        metric(preds[40:], target[40:], rows[40:])
        assert_equal(first, compute_expected(name, preds[:40], target[:40]))
        assert_equal(metric.compute(), compute_expected(name, preds, target))

    def test_starts_anew_after_reset(self, name):
        metric = build_metrics()[name]
        metric.update(*draw_rows(20, seed=1))
        metric.compute()
        metric.reset()
        preds, target, rows = draw_rows(40)
        metric.update(preds, target, rows)
        assert_equal(metric.compute(), compute_expected(name, preds, target))

    def test_warns_and_has_no_value_before_the_first_row(self, name):
        metric = build_metrics()[name]
        with pytest.warns(UserWarning, match="was called before the ``update`` method"):
            value = metric.compute()
        values = value.values() if isinstance(value, dict) else value[1:] if isinstance(value, tuple) else [value]
        assert all(bool(torch.as_tensor(each).isnan().all()) for each in values), values

    def test_survives_pickling_and_copying(self, name):
        preds, target, rows = draw_rows(20)
        metric = build_metrics()[name]
        metric.update(preds, target, rows)
        for copied in (pickle.loads(pickle.dumps(metric)), copy.deepcopy(metric), metric.clone()):
            assert_equal(copied.compute(), compute_expected(name, preds, target))

    def test_half_precision_is_evaluated_in_float32(self, name):
        preds, target, rows = draw_rows(50)
        preds = preds.bfloat16()
        metric = build_metrics()[name]
        metric.update(preds, target, rows)
        assert_equal(metric.compute(), compute_expected(name, preds.float(), target))


class TestUpdate:
    @pytest.mark.parametrize(
        ("preds", "target", "rows", "message"),
        [
            ([[3.0, -1.0]], [0], [0], "expected values from 0 to 1, got 3.0 at index .*not logits"),
            ([[0.5, math.nan]], [0], [0], "got nan"),
            ([[0.5, 0.5]], [2], [0], "class index below 2, got 2"),
            ([[0.5, 0.5]], [0, 1], [0], "expected probabilities"),
            ([[[0.5, 0.5]]], [[0]], [[0]], "evaluate each run of a stack by itself"),
            ([[0.5, 0.5]], [0], [0, 1], r"rows: expected int64 \(1,\), got torch.int64 \(2,\)"),
            ([[0.5, 0.5]], [0], [0.0], r"rows: expected int64 \(1,\), got torch.float32 \(1,\)"),
            ([[0.5, 0.5]], [0], [-1], "rows: expected rows of a data set, from 0, got -1"),
        ],
    )
    def test_refuses_bad_rows_and_keeps_nothing_of_them(self, preds, target, rows, message):
        metric = metrics.WeightedAUROC()
        with pytest.raises(DataError, match=message):
            metric.update(torch.tensor(preds), torch.tensor(target), torch.tensor(rows))
        assert metric.preds == []
        assert metric.target == []
        assert metric.rows == []

    @pytest.mark.parametrize(
        ("scores", "message"),
        [
            ([0.5, 0.5], r"none_scores: expected one a row, \(1,\), got \(2,\)"),
            ([[0.5]], r"none_scores: expected one a row, \(1,\), got \(1, 1\)"),
            ([2.5], r"none_scores: expected values from 0 to 1, got 2.5 at index \(0,\); map an unbounded score"),
            ([math.nan], "none_scores: expected values from 0 to 1, got nan"),
            ([1], "none_scores: expected floating point values, got torch.int64"),
        ],
    )
    def test_refuses_what_is_no_none_score(self, scores, message):
        metric = metrics.WeightedAUROC()
        with pytest.raises(DataError, match=message):
            metric.update(torch.tensor([[0.5, 0.5]]), torch.tensor([0]), none_scores=torch.tensor(scores))
        assert metric.preds == metric.scores == []

    def test_rows_without_a_none_score_have_the_papers(self):
        metric = metrics.WeightedAUROC()
        metric.update(torch.tensor([[0.75, 0.25]]), torch.tensor([0]))
        assert metric.decided()[2] is None
        metric.update(torch.tensor([[0.5, 0.25]]), torch.tensor([-1]), none_scores=torch.tensor([0.125]))
        assert_equal(metric.none_scores(), torch.tensor([0.25, 0.125], dtype=torch.float64))
        assert_equal(metric.decided()[2], metric.none_scores())
        assert float(metric.compute()) == 0.5  # the class is right above, "none" wrong below

    def test_refuses_a_row_with_two_labels(self):
        metric = metrics.WeightedAUROC()
        preds, target = torch.full((3, 2), 0.5), torch.tensor([0, 1, 1])
        metric.update(preds, target, torch.tensor([0, 1, 2]))
        metric.update(preds, target, torch.tensor([1, 2, 0]))
        with pytest.raises(DataError, match="row 0 has different labels, 0 and 1"):
            metric.compute()

    def test_keeps_no_graph(self):
        metric = metrics.WeightedAUROC()
        preds, target, rows = draw_rows(8)
        metric.update(preds.requires_grad_(), target, rows)
        assert not metric.preds[0].requires_grad


class TestOptions:
    @pytest.mark.parametrize(
        "metric_class",
        [
            metrics.ConfidenceAccuracyCorrelation,
            metrics.ReliabilityDiagram,
            metrics.ExpectedCalibrationError,
            metrics.AdaptiveCalibrationError,
            metrics.ClasswiseCalibrationError,
        ],
    )
    def test_number_of_bins_is_checked_at_once_and_used(self, metric_class):
        with pytest.raises(ConfigError, match="num_bins"):
            metric_class(num_bins=0)
        preds, target, rows = draw_rows(200)
        confidence, predicted = preds.max(-1)
        target = torch.where(confidence > 0.8, predicted, target)  # too sure below, not sure enough above
        values = []
        for num_bins in (3, 15):
            metric = metric_class(num_bins=num_bins)
            metric.update(preds, target, rows)
            value = metric.compute()
            values.append(value.counts if isinstance(value, tuple) else value)
        assert not torch.equal(*values)

    def test_defaults_are_those_of_the_functions(self):
        preds, target, rows = draw_rows(300)
        confidence, predicted = preds.max(-1)
        for metric, expected in (
            (metrics.ConfidenceThreshold(), functional.select_threshold(confidence, predicted, target)),
            (metrics.ClasswiseCalibrationError(), functional.classwise_calibration_error(preds, target).mean()),
        ):
            metric.update(preds, target, rows)
            assert_equal(metric.compute(), expected)

    def test_a_threshold_is_compared_in_float32(self):
        """In bfloat16, 0.3 is 0.30078: the confidence would not exceed the threshold."""
        metric = metrics.NoneAwareAccuracy(threshold=0.3)
        metric.update(torch.tensor([[0.3]], dtype=torch.bfloat16), torch.tensor([0]))
        assert float(metric.compute()["accuracy"]) == 1

    def test_a_new_threshold_counts_at_once(self):
        preds, target, rows = draw_rows(100)
        metric = metrics.NoneAwareAccuracy()
        metric.update(preds, target, rows)
        assert float(metric.compute()["accuracy_none"]) == 0
        metric.threshold = torch.tensor(1.0)
        assert float(metric.compute()["accuracy_none"]) == 1
        assert metric.threshold == 1

    def test_a_selected_threshold_decides_as_it_was_evaluated(self):
        preds, target, rows = draw_rows(500)
        confidence, predicted = preds.max(-1)
        metric = metrics.NoneAwareAccuracy(functional.select_threshold(confidence, predicted, target))
        metric.update(preds, target, rows)
        curves = functional.threshold_curves(confidence, predicted, target, torch.tensor([metric.threshold]))
        for name, value in metric.compute().items():
            assert value == getattr(curves, name)[0]

    def test_without_a_threshold_everything_is_accepted(self):
        metric = metrics.NoneAwareAccuracy()
        metric.update(torch.zeros(2, 1), torch.tensor([0, -1]))
        assert_equal(metric.compute()["accuracy_id"], torch.tensor(1.0, dtype=torch.float64))
        metric.threshold = 0.0
        assert float(metric.compute()["accuracy_id"]) == 0
        metric.threshold = math.nan
        assert float(metric.compute()["accuracy_id"]) == 1

    @pytest.mark.parametrize("threshold", [-0.1, 1.1, math.inf])
    def test_refuses_what_is_no_confidence(self, threshold):
        with pytest.raises(ConfigError, match="threshold: expected a confidence from 0 to 1"):
            metrics.NoneAwareAccuracy(threshold)
        metric = metrics.NoneAwareAccuracy()
        with pytest.raises(ConfigError, match="threshold"):
            metric.threshold = threshold


class TestNoneGroups:
    def test_each_group_stands_against_all_known_rows(self):
        preds, target, rows = draw_rows(300)
        scores, numbers = draw_scores(300), rows + 1000
        near = numbers[::3]  # known rows among them do not matter
        for metric in (metrics.NoneDetection({"near": near}), metrics.NoneFalsePositives({"near": near})):
            order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
            metric.update(preds[order], target[order], numbers[order], none_scores=scores[order])
            kept = (target >= 0) | torch.isin(numbers, near)
            expected = functional.none_detection(scores[kept], target[kept])
            overall = functional.none_detection(scores, target)
            for name, value in metric.compute().items():
                field = {"auroc": "auroc", "ap": "average_precision", "fpr95": "fpr95"}[name.split("/")[0][5:]]
                assert_equal(value, getattr(expected if name.endswith("/near") else overall, field))
                assert getattr(expected, field) != getattr(overall, field)

    def test_groups_count_at_once_and_one_without_rows_has_no_value(self):
        metric = metrics.NoneDetection()
        metric.update(*draw_rows(50))
        assert set(metric.compute()) == {"none_auroc", "none_ap"}
        metric.groups = {"far": torch.tensor([10_000])}
        values = metric.compute()
        assert set(values) == {"none_auroc", "none_ap", "none_auroc/far", "none_ap/far"}
        assert bool(values["none_auroc/far"].isnan())


class TestCollection:
    def test_defaults_are_the_ones_that_the_page_lists(self):
        preds, target, rows = draw_rows(60)
        collection = MetricCollection(metrics.default_metrics())
        collection.update(preds, target, rows=rows)
        auroc, aupr, accuracies = (compute_expected(name, preds, target) for name in ("auroc", "aupr", "top_one"))
        assert_equal(
            collection.compute(),
            {
                "auroc": auroc,
                "aupr": aupr,
                "ece": compute_expected("ece", preds, target),
                "ece_id": compute_expected("ece_known", preds, target),
                "correlation": compute_expected("correlation", preds, target),
                "correlation_id": compute_expected("correlation_known", preds, target),
                "correlation_weighted": compute_expected("correlation_weighted", preds, target),
                **accuracies,
                **compute_expected("accept_all", preds, target),
                **compute_expected("none", preds, target),
                **compute_expected("none_fpr", preds, target),
                **compute_expected("risk", preds, target),
            },
        )

    def test_keeps_one_state_for_all(self):
        collection = MetricCollection(build_metrics())
        preds, target, rows = draw_rows(50)
        for batch in rows.split(20):
            collection.update(preds[batch], target[batch], rows[batch])
        assert list(collection.compute_groups) == [0]
        first, *others = collection.values(copy_state=False)
        assert all(other.preds is first.preds for other in others)
        for name in ("auroc", "aupr", "ece", "correlation_known"):
            assert_equal(collection.compute()[name], compute_expected(name, preds, target))

    def test_names_the_accuracies_and_follows_the_threshold(self):
        collection = MetricCollection(
            {"ranking": metrics.WeightedRanking(), "decision": metrics.NoneAwareAccuracy()}, prefix="val/"
        )
        preds, target, rows = draw_rows(50)
        collection.update(preds, target, rows=rows)
        assert set(collection.compute()) == {
            "val/auroc",
            "val/aupr",
            "val/accuracy",
            "val/accuracy_id",
            "val/accuracy_none",
        }
        collection["decision"].threshold = 1.0
        assert float(collection.compute()["val/accuracy_id"]) == 0
        assert float(collection.compute()["val/accuracy_none"]) == 1


ROWS = 37
# Uneven, out of order, overlapping; the second layout leaves a process without rows.
LAYOUTS = (
    ([*range(36, 10, -3), 0, 5], [i for i in range(ROWS) if i not in range(36, 10, -3)]),
    (list(range(ROWS)), []),
)


def evaluate_on_one_of_two_processes(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    preds, target, rows = draw_rows(ROWS)
    results = []
    for layout, scores in product(LAYOUTS, (None, draw_scores(ROWS))):
        collection = MetricCollection(build_metrics())
        for batch in torch.tensor(layout[rank], dtype=torch.int64).split(8) if layout[rank] else ():
            given = None if scores is None else scores[batch]
            collection.update(preds[batch], target[batch], rows[batch], none_scores=given)
        results.append({name: metric.compute() for name, metric in collection.items()})
    torch.save(results, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.timeout(200)
def test_two_processes_compute_what_one_does(tmp_path: Path):
    """Also with rows that are seen twice and with a process that saw none."""
    multiprocessing.set_forkserver_preload(["torchmetrics"])  # whose import takes longer than all else here
    multiprocessing.start_processes(
        evaluate_on_one_of_two_processes, (str(tmp_path),), nprocs=2, start_method="forkserver"
    )
    preds, target, _ = draw_rows(ROWS)
    for rank in range(2):
        results = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        for values, (_, scores) in zip(results, product(LAYOUTS, (None, draw_scores(ROWS))), strict=True):
            for name, value in values.items():
                assert_equal(value, compute_expected(name, preds, target, scores))

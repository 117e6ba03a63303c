"""Tables of a study: against hand-computed numbers, and against scikit-learn on the logits that were kept."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kept import Array, kept
from made_study import HOSTILE, METHODS
from rich.console import Console
from sklearn.metrics import average_precision_score, roc_auc_score

from estitchup_pl.errors import DataError
from estitchup_pl.report import ReportPaths, StudyTables, study_tables
from estitchup_pl.report.averages import mean_over_trials, spread_over_trials
from estitchup_pl.report.comparison import CALIBRATION, CONVERGENCE
from estitchup_pl.report.explorer import outcome
from estitchup_pl.report.runs import read_study
from estitchup_pl.report.significance import METRICS, Interval
from estitchup_pl.report.tables import tables_of
from estitchup_pl.report.text_table import TextTable
from estitchup_pl.report.verdict import verdict
from estitchup_pl.study import StudyFolder
from estitchup_pl.study.evaluation import evaluate

SOFT = [*METHODS][-1]


def hand_made(values: dict[str, dict[str, list[float]]], beside_paper: bool = False, **options: Any) -> StudyTables:
    arrays = {method: {k: np.array(v) for k, v in metrics.items()} for method, metrics in values.items()}
    interval = {metric: Interval(0.1, 0.05, 0.15) for metric in METRICS}
    intervals = {method: dict(interval) for method in values if method != "Control"}
    trials = tuple(range(len(next(iter(values["Control"].values())))))
    chosen = options.get("chosen", {method: [{} for _ in trials] for method in values})
    left_out = options.get("left_out", {})
    return StudyTables("hand made", "Control", tuple(values), trials, left_out, beside_paper, arrays, intervals, chosen)


def rows_of(tables: StudyTables, key: str) -> dict[str, tuple[str, ...]]:
    table = next(table for table in tables.tables() if table.key == key)
    return {name: tuple(cells) for name, *cells in table.rows}


def test_table_1_shows_the_control_as_it_is_and_others_by_their_paired_differences() -> None:
    tables = hand_made(
        {"Control": {"auroc": [0.9, 0.8], "aupr": [0.5, 0.7]}, "E-Mixup": {"auroc": [0.95, 0.85], "aupr": [0.6, 0.9]}}
    )
    assert rows_of(tables, "table-1") == {
        "Control": ("0.8500 (0.0707)", "0.6000 (0.1414)"),
        "E-Mixup": ("+0.0500 (0.0000)", "+0.1500 (0.0707)"),  # +0.1 and +0.2
    }
    numbers = tables.to_json()["table1"]["E-Mixup"]
    assert numbers["aupr"]["mean"] == pytest.approx(0.75)
    assert numbers["aupr_difference"] == {"mean": pytest.approx(0.15), "sd": pytest.approx(math.sqrt(0.005))}


def test_paper_values_stand_beside_its_six_methods_and_nothing_beside_others() -> None:
    values = {"auroc": [0.9], "aupr": [0.5], "correlation": [0.5], "threshold/intersection": [0.999997]}
    tables = hand_made(dict.fromkeys(("Control", "Soft E-Stitchup", "Forest"), values), beside_paper=True)
    assert rows_of(tables, "table-1")["Soft E-Stitchup"][2:] == ("+0.0226 (0.0012)", "+0.0236 (0.0020)")
    assert rows_of(tables, "table-1")["Control"][2:] == ("0.9698 (0.0010)", "0.8913 (0.0026)")
    assert rows_of(tables, "table-1")["Forest"][2:] == ("–", "–")
    assert rows_of(tables, "table-2")["Control"] == ("0.5000", *["–"] * 6, "0.9072")
    assert tables.to_json()["paper"]["table2"]["E-Mixup"] == 0.9789
    assert hand_made({"Control": values}).to_json()["paper"] is None
    assert rows_of(tables, "table-3a")["Control"] == ("0.999997", "–", "–", "–", "0.93", "0.82", "0.72", "0.82")


def test_one_trial_has_no_spread_and_a_missing_metric_no_number() -> None:
    tables = hand_made({"Control": {"auroc": [0.9], "epochs_to_convergence": [math.nan]}})
    assert rows_of(tables, "table-1")["Control"] == ("0.9000 (–)", "– (–)")
    assert "convergence" not in [table.key for table in tables.tables()]
    assert tables.to_json()["table1"]["Control"]["auroc"] == {"mean": 0.9, "sd": None}


def test_differences_are_marked_where_their_interval_excludes_zero() -> None:
    tables = hand_made({"Control": {"auroc": [0.9]}, "E-Mixup": {"auroc": [0.95]}})
    tables.intervals["E-Mixup"]["ece"] = Interval(0.1, -0.05, 0.15)
    cells = rows_of(tables, "differences")["E-Mixup"]
    assert cells[0] == "+0.1000 [+0.0500, +0.1500] *"
    assert cells[METRICS.index("ece")] == "+0.1000 [-0.0500, +0.1500]"
    assert "Control" not in rows_of(tables, "differences")


def test_means_pass_over_trials_without_a_value() -> None:
    values = np.array([[1.0, np.nan, 2.0], [3.0, np.nan, np.inf]])
    np.testing.assert_array_equal(mean_over_trials(values), [2, np.nan, 2])
    np.testing.assert_allclose(spread_over_trials(values), [math.sqrt(2), np.nan, np.nan])


def test_markdown_keeps_hostile_names_as_they_are() -> None:
    table = TextTable(
        "key", "Which `x`", "See [a](b).", ("Method", "_a_"), (("a|b *<i>", "x\ny"),), frozenset({(0, 1)})
    )
    assert table.markdown().splitlines() == [
        r"## Which \`x\`",
        "",
        r"See [a]\(b).",
        "",
        r"| Method | \_a\_ |",
        "| --- | ---: |",
        r"| a\|b \*&lt;i&gt; | **x y** |",
    ]
    tables = hand_made({"Control": {"auroc": [0.9]}, HOSTILE: {"auroc": [0.95]}}, left_out={HOSTILE: "diverged"})
    assert "<b>" not in tables.markdown()
    for section in tables.markdown().split("\n## ")[1:]:
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in section.splitlines()[4:]}
        assert len(bars) == 1, section


def test_columns_hold_the_metrics_that_their_heads_name() -> None:
    names = {
        "table-2": [*CALIBRATION],
        "table-3a": [f"{name}/intersection" for name in ("threshold", "accuracy_id", "accuracy_none", "accuracy")],
        "table-3b": [f"{name}/tp_ratio" for name in ("threshold", "accuracy_id", "accuracy_none", "accuracy")],
        "table-4a": [
            *("none_auroc", "none_ap", "none_fpr95"),
            *(f"none_{name}/{group}" for group in ("far", "near") for name in ("auroc", "ap", "fpr95")),
        ],
        "table-4b": [
            *(f"{name}/{h}" for h in ("intersection", "tp_ratio") for name in ("accuracy_accepted", "coverage")),
            *("aurc", "augrc"),
        ],
    }
    metrics = [name for of_table in names.values() for name in of_table]
    values = {name: [place / 100, place / 100 + 0.02] for place, name in enumerate(metrics)}
    tables = hand_made({"Control": values})
    for key, of_table in names.items():
        assert rows_of(tables, key)["Control"] == tuple(f"{metrics.index(name) / 100 + 0.01:.4f}" for name in of_table)
    heads = {table.key: table.columns[1:] for table in tables.tables()}
    assert heads == {
        "table-2": (
            *("Correlation", "Correlation, known", "Correlation, by rows"),
            *("ECE", "ECE, known", "Classwise ECE", "Adaptive ECE"),
        ),
        "table-3a": ("Threshold", "Known acc.", "None acc.", "Overall acc."),
        "table-3b": ("Threshold", "Known acc.", "None acc.", "Overall acc."),
        "table-4a": (
            *("None AUROC", "None AP", "None FPR95", "None AUROC, far", "None AP, far", "None FPR95, far"),
            *("None AUROC, near", "None AP, near", "None FPR95, near"),
        ),
        "table-4b": (
            *("Acc. of accepted, intersection", "Coverage, intersection"),
            *("Acc. of accepted, TP ratio", "Coverage, TP ratio", "AURC", "AUGRC"),
        ),
    }
    titles = {table.key: table.title for table in tables.tables()}
    assert titles["table-3a"] == "Table 3a: accuracy at the threshold of the intersection heuristic"
    assert titles["table-3b"] == "Table 3b: accuracy at the threshold of the TP ratio heuristic"


def test_the_best_of_each_column_is_marked_the_least_of_errors_the_greatest_of_all_else() -> None:
    metrics = ("auroc", "aupr", *CALIBRATION, "none_auroc", "none_ap", "none_fpr95", "aurc", "augrc")
    low, high = {name: [0.2, 0.4] for name in metrics}, {name: [0.3, 0.5] for name in metrics}
    tables = hand_made({"Control": low, "E-Mixup": high, "Forest": {}})
    best = {table.key: table.best for table in tables.tables()}
    assert best["table-1"] == {(1, 1), (1, 2)}
    assert best["table-2"] == {
        *((1, k) for k in (1, 2, 3)),
        *((0, k) for k in (4, 5, 6, 7)),
    }  # correlations, then errors
    assert best["table-4a"] == {(1, 1), (1, 2), (0, 3)}
    assert best["table-4b"] == {(0, 5), (0, 6)}
    assert hand_made({"Control": high, "E-Mixup": low}).tables()[0].best == {(0, 1), (0, 2)}


def test_a_number_about_none_says_so_where_it_rests_on_few_rows() -> None:
    metrics = {
        "none_auroc": [0.9, 0.8],
        "accuracy_none/intersection": [0.5, 0.7],
        "accuracy_id/intersection": [0.9, 0.9],
    }
    few = hand_made({"Control": {**metrics, "none_rows": [29.0, 12.0]}, "E-Mixup": metrics})
    assert rows_of(few, "table-3a")["E-Mixup"] == ("–", "0.9000", "0.6000 [0.33, 0.82] (12 to 29 rows)", "–")
    assert rows_of(few, "table-4a")["Control"][0] == "0.8500 (12 to 29 rows)"
    same = hand_made({"Control": {**metrics, "none_rows": [12.0, 12.0]}})
    assert rows_of(same, "table-4a")["Control"] == ("0.8500 (12 rows)", "–", "–")
    enough = hand_made({"Control": {**metrics, "none_rows": [30.0, 30.0]}})
    assert rows_of(enough, "table-4a")["Control"][0] == "0.8500"


def test_thresholds_stand_with_their_intervals_and_what_they_rest_on() -> None:
    metrics = {"threshold/intersection": [0.5, 0.7], "threshold/tp_ratio": [0.8, 0.8]}
    tables = hand_made({"Control": metrics, "E-Mixup": metrics})
    assert "thresholds" not in [table.key for table in tables.tables()]
    trials = [
        {"intersection": {**basis, "low": low, "high": 0.9}, "tp_ratio": {**basis, "low": 0.1, "high": 1.0}}
        for low, basis in ((0.2, {"none_rows": 29, "none_classes": 5}), (0.3, {"none_rows": 40, "none_classes": 5}))
    ]
    tables = replace(tables, threshold_intervals={"Control": trials})
    expected = ("0.6000 [0.2500, 0.9000]", "0.8000 [0.1000, 1.0000]", "29 to 40 (few)", "5")
    assert rows_of(tables, "thresholds") == {"Control": expected}
    trials[0]["intersection"]["none_rows"] = 30
    assert rows_of(tables, "thresholds")["Control"][2] == "30 to 40"


def test_metrics_that_the_report_does_not_know_have_a_table_of_their_own() -> None:
    own = {"auroc": [0.9, 0.8], "f1": [0.5, 0.7], "coverage/at_5": [1.0, 3.0], "train_rows": [2.0, 2.0]}
    tables = hand_made({"Control": own, "E-Mixup": {"brier": [0.1, math.nan]}})
    table = next(table for table in tables.tables() if table.key == "further")
    assert table.columns == ("Method", "f1", "coverage/at_5", "brier")
    assert rows_of(tables, "further") == {
        "Control": ("0.6000 (0.1414)", "2.0000 (1.4142)", "– (–)"),
        "E-Mixup": ("– (–)", "– (–)", "0.1000 (–)"),
    }
    assert tables.to_json()["further"]["Control"]["f1"] == {
        "mean": pytest.approx(0.6),
        "sd": pytest.approx(math.sqrt(0.02)),
    }
    higher = {"f1": True, "brier": False, "coverage/at_5": None, "top": True}
    three = {"Control": {"f1": [0.5], "brier": [0.2], "coverage/at_5": [1.0], "top/tp_ratio": [0.3]}}
    three |= {"E-Mixup": {"f1": [0.6], "brier": [0.3], "coverage/at_5": [2.0], "top/tp_ratio": [0.4], "own": [1.0]}}
    assert replace(hand_made(three), higher_is_better=higher).tables()[-1].best == {(1, 1), (0, 2), (1, 4)}
    only_own = hand_made({"Control": {"f1": [0.5]}})
    assert [table.key for table in only_own.tables()] == ["further"]
    assert verdict(only_own) == []


def test_chosen_hyperparameters_stand_under_their_trials() -> None:
    chosen = {
        "Control": [{}, {}],
        "E-Mixup": [{"alpha": 0.4, "hidden": [250, 250]}, {"alpha": 0.1, "temperature": 1.23456}],
    }
    tables = hand_made({"Control": {"auroc": [0.9, 0.8]}, "E-Mixup": {}}, chosen=chosen)
    assert rows_of(tables, "chosen") == {"E-Mixup": ("alpha 0.4, hidden [250, 250]", "alpha 0.1, temperature 1.235")}
    assert tables.tables()[-1].columns == ("Method", "Trial 0", "Trial 1")
    assert tables.to_json()["chosen"] == chosen


def test_what_was_chosen_is_read_from_the_study(study: StudyFolder, tables: StudyTables) -> None:
    assert tables.higher_is_better == {"accuracy_top1_id": True}
    assert rows_of(tables, "chosen") == {"E-Stitchup": ("alpha 0.1", "alpha 0.2", "alpha 0.3")}
    record = replace(study.record("E-Stitchup", 1), parameters={"temperature": 2.0})
    run = read_study(study).runs["E-Stitchup", 1]
    assert replace(run, record=record).hyperparameters == {"alpha": 0.2, "temperature": 2.0}


def test_runs_that_came_near_their_best_in_the_last_quarter_were_still_improving() -> None:
    tables = hand_made({"Control": {CONVERGENCE: [24, 19]}, "E-Mixup": {CONVERGENCE: [24, 18]}, "Forest": {}})
    tables = replace(tables, epochs=24)
    assert [cells[1] for cells in rows_of(tables, "convergence").values()] == ["2 of 2", "1 of 2", "–"]
    (remark,) = tables.remarks()
    assert remark.startswith("Every run of Control was still improving in the last quarter of its 24 epochs")
    assert remark in tables.preface()
    assert replace(tables, epochs=48).remarks() == []


def test_convergence_shows_mean_and_spread_and_is_silent_where_there_are_no_epochs() -> None:
    tables = hand_made({"Control": {"epochs_to_convergence": [12, 24]}, "Forest": {"auroc": [0.5, 0.5]}})
    assert rows_of(tables, "convergence") == {"Control": ("18.0 (8.5)", "–"), "Forest": ("–", "–")}
    one = hand_made({"Control": {"epochs_to_convergence": [12]}})
    assert rows_of(one, "convergence") == {"Control": ("12.0 (–)", "–")}


def test_tables_equal_scikit_learn_on_the_logits_that_were_kept(study: StudyFolder, report: ReportPaths) -> None:
    """Tables 1 to 3 again, from the files alone."""
    written = json.loads(report.tables_json.read_text())
    recomputed = {
        method: [recompute(study, method, trial) for trial in written["trials"]] for method in written["methods"]
    }
    for method, trials in recomputed.items():
        expect = {metric: np.array([trial[metric] for trial in trials]) for metric in trials[0]}
        check(written["table1"][method], expect, ["auroc", "aupr"])
        check(written["table2"][method], expect, [*CALIBRATION])
        check(written["further"][method], expect, ["accuracy_top1_id"])
        check(written["table4"][method], expect, ["none_auroc", "none_ap", "none_fpr95", "aurc", "augrc"])
        check(written["epochs_to_convergence"], {method: expect["epochs_to_convergence"]}, [method])
        for heuristic in ("intersection", "tp_ratio"):
            of_heuristic = {metric.removesuffix(f"/{heuristic}"): values for metric, values in expect.items()}
            numbers = written["table3"][method][heuristic]
            check(numbers, of_heuristic, ["threshold", "accuracy_id", "accuracy_none", "accuracy"])
            check(written["table4"][method][heuristic], of_heuristic, ["accuracy_accepted", "coverage"])
        if method == written["control"]:
            continue
        for metric in ("auroc", "aupr"):
            difference = expect[metric] - [trial[metric] for trial in recomputed["Control"]]
            check(written["table1"][method], {f"{metric}_difference": difference}, [f"{metric}_difference"])
            assert written["differences"][method][metric]["difference"] == pytest.approx(difference.mean(), abs=1e-6)
        for metric in ("ece", "ece_id", "none_auroc", "correlation"):
            mean = np.mean(expect[metric] - [trial[metric] for trial in recomputed["Control"]])
            assert written["differences"][method][metric]["difference"] == pytest.approx(mean, abs=1e-6)


def check(numbers: dict[str, Any], expect: dict[str, Array], metrics: list[str]) -> None:
    for metric in metrics:
        assert numbers[metric]["mean"] == pytest.approx(expect[metric].mean(), abs=1e-6), metric
        assert numbers[metric]["sd"] == pytest.approx(expect[metric].std(ddof=1), abs=1e-6), metric


def recompute(study: StudyFolder, method: str, trial: int) -> dict[str, float]:
    """Every number of a run with numpy and scikit-learn, as somebody would who has the folder only."""
    run = kept(study, method, trial)
    probabilities, confidence, known, right = run.probabilities, run.confidence, run.known, run.right
    classes = len(run.class_names)
    columns = np.concatenate([probabilities, 1 - confidence[:, None]], axis=1)
    truth = np.where(known, run.labels, classes)[:, None] == np.arange(classes + 1)
    present = truth.any(axis=0)
    average = {"average": "weighted"}
    values = {
        "auroc": roc_auc_score(truth[:, present], columns[:, present], **average),
        "aupr": average_precision_score(truth[:, present], columns[:, present], **average),
        "correlation": correlation(confidence, right),
        "correlation_id": correlation(confidence[known], right[known]),
        "correlation_weighted": correlation(confidence, right, by_rows=True),
        "none_auroc": roc_auc_score(~known, -confidence),
        "none_ap": average_precision_score(~known, -confidence),
        "none_fpr95": np.mean(confidence[known] <= np.sort(confidence[~known])[::-1][(~known).sum() // 20]),
        **risk(confidence, right),
        "ece": calibration_error(confidence, right, np.floor(confidence * 15).clip(max=14)),
        "ece_id": calibration_error(confidence[known], right[known], np.floor(confidence[known] * 15).clip(max=14)),
        "adaptive_ece": calibration_error(confidence, right, middle_ranks(confidence) * 15 // len(right)),
        "classwise_ece": np.mean(
            [
                calibration_error(p, run.labels == c, np.floor(p * 15).clip(max=14))
                for c, p in enumerate(probabilities.T)
            ]
        ),
        "accuracy_top1_id": right[known].mean(),
    }
    for heuristic, threshold in run.thresholds.items():
        decided = run.decided(threshold) == run.labels
        accuracies = {"accuracy_id": decided[known], "accuracy_none": decided[~known], "accuracy": decided}
        values |= {f"{name}/{heuristic}": rows.mean() for name, rows in accuracies.items()}
        values[f"threshold/{heuristic}"] = threshold
        accepted = run.decided(threshold) >= 0
        values |= {f"coverage/{heuristic}": accepted.mean(), f"accuracy_accepted/{heuristic}": right[accepted].mean()}
    accuracy = pq.read_table(study.run_path(method, trial) / "curve.parquet")["accuracy"].to_pylist()
    values["epochs_to_convergence"] = 1 + [value >= 0.99 * max(accuracy) for value in accuracy].index(True)
    return values


def correlation(confidence: Array, right: Array, by_rows: bool = False) -> float:
    index = np.floor(confidence * 10).clip(max=9)
    bins = [(confidence[index == b].mean(), right[index == b].mean()) for b in np.unique(index)]
    counts = np.unique(index, return_counts=True)[1] if by_rows else 1
    return float(np.corrcoef(np.repeat(np.transpose(bins), counts, axis=1))[0, 1])


def risk(confidence: Array, right: Array) -> dict[str, float]:
    """Trapezoids over the share accepted, from one row to all; equal confidences share their errors."""
    values, inverse = np.unique(-confidence, return_inverse=True)
    shared = np.array([1 - right[inverse == place].mean() for place in range(len(values))])
    errors = np.cumsum(shared[np.sort(inverse)])
    rows, steps = np.arange(1, len(right) + 1), len(right) - 1
    return {"aurc": np.trapezoid(errors / rows) / steps, "augrc": np.trapezoid(errors / len(right)) / steps}


def middle_ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts + 1) / 2)[inverse]


def calibration_error(confidence: Array, right: Array, index: Array) -> float:
    gaps = [abs((confidence[index == b] - right[index == b]).sum()) for b in np.unique(index)]
    return float(np.sum(gaps) / len(right))


def test_a_score_of_none_of_its_own_decides(study: StudyFolder, tmp_path: Path) -> None:
    """In what the tables say, in what the slider shows and in what the intervals compare."""
    shutil.copytree(study.path, tmp_path / "copy")
    folder, scores = StudyFolder(tmp_path / "copy"), {}
    for trial in range(3):
        scores[trial] = np.random.default_rng(trial).random(len(kept(study, SOFT, trial).labels)).astype(np.float32)
        folder.write_scores(SOFT, trial, "none_scores", scores[trial])
    folder.write_table("results.parquet", evaluate(folder))
    runs = read_study(folder)
    values = tables_of(runs).to_json()
    expected, outcomes = [], []
    for trial, own in scores.items():
        run = kept(study, SOFT, trial)
        expected.append(roc_auc_score(~run.known, own))
        accepted = 1 - own > 0.4
        outcomes.append((run.right & accepted)[run.known].mean())
        assert outcome(runs.runs[SOFT, trial], [0.4]).known[0] == pytest.approx(outcomes[-1])
    assert values["table4"][SOFT]["none_auroc"]["mean"] == pytest.approx(np.mean(expected))
    control = values["table4"]["Control"]["none_auroc"]["mean"]
    found = values["differences"][SOFT]["none_auroc"]["difference"]
    assert found == pytest.approx(np.mean(expected) - control)
    assert values["table4"]["E-Stitchup"] == study_tables(study).to_json()["table4"]["E-Stitchup"]


def test_console_shows_every_table(tables: StudyTables) -> None:
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(tables)  # names are text: "[/red]" closes nothing
    text = console.export_text()
    assert f"{tables.name}: 3 methods, 3 trials; all compared with Control." in text
    assert all(table.title in text for table in tables.tables())
    assert all(cell in text for row in tables.tables()[0].rows for cell in row)


def test_markdown_file_holds_the_printed_numbers(report: ReportPaths, tables: StudyTables) -> None:
    text = report.tables_markdown.read_text()
    assert all(cell in text for cell in tables.tables()[1].rows[0])


def test_unfinished_and_diverged_methods_are_left_out_by_name(study: StudyFolder, tmp_path: Path) -> None:
    shutil.copytree(study.path, tmp_path / "copy")
    folder = StudyFolder(tmp_path / "copy")
    (folder.run_path("E-Stitchup", 1) / "run.json").unlink()
    folder.write_run(replace(folder.record(SOFT, 2), diverged=True))
    tables = study_tables(folder)
    assert tables.methods == ("Control",)
    assert tables.left_out == {"E-Stitchup": "not finished in trial 1", SOFT: "diverged in trial 2"}
    assert "Left out: E-Stitchup, not finished in trial 1." in tables.markdown()
    assert "1 method, 3 trials; all compared with Control." in tables.markdown()


def test_results_are_found_in_any_order_and_those_of_other_splits_are_none_of_it(
    study: StudyFolder, tables: StudyTables, tmp_path: Path
) -> None:
    folder = StudyFolder(shutil.copytree(study.path, tmp_path / "copy"))
    rows = folder.results().to_pylist()
    others = [{**row, "split": "validation", "value": -1.0} for row in rows]
    others += [{**row, "trial": 9} for row in rows] + [{**row, "method": "Forest"} for row in rows]
    folder.write_table("results.parquet", pa.Table.from_pylist([*others, *rows[::-1]], folder.results().schema))
    again = study_tables(folder)
    for method, metrics in tables.values.items():
        assert again.values[method].keys() == metrics.keys()
        for metric, values in metrics.items():
            np.testing.assert_array_equal(again.values[method][metric], values)
    assert [*again.values] == [*tables.values]


def test_a_study_without_its_control_or_results_is_explained(study: StudyFolder, tmp_path: Path) -> None:
    shutil.copytree(study.path, tmp_path / "copy")
    folder = StudyFolder(tmp_path / "copy")
    (folder.path / "results.parquet").unlink()
    with pytest.raises(DataError, match=r"results\.parquet: not there.*estitchup study"):
        study_tables(folder)
    (folder.run_path("Control", 0) / "run.json").unlink()
    with pytest.raises(DataError, match="'Control', is not finished in trial 0"):
        study_tables(folder)

"""Tables of a study: against hand-computed numbers, and against scikit-learn on the logits that were kept."""

from __future__ import annotations

import io
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from rich.console import Console
from sklearn.metrics import average_precision_score, roc_auc_score

from estitchup_pl.errors import DataError
from estitchup_pl.report import ReportPaths, StudyTables, study_tables
from estitchup_pl.report.averages import mean_over_trials, spread_over_trials
from estitchup_pl.report.significance import Interval
from estitchup_pl.report.tables import CALIBRATION
from estitchup_pl.report.text_table import TextTable
from estitchup_pl.study import StudyFolder

Array = npt.NDArray[Any]


def hand_made(values: dict[str, dict[str, list[float]]], **options: Any) -> StudyTables:
    arrays = {method: {k: np.array(v) for k, v in metrics.items()} for method, metrics in values.items()}
    interval = {metric: Interval(0.1, 0.05, 0.15) for metric in ("auroc", "aupr", "ece", "correlation")}
    intervals = {method: interval for method in values if method != "Control"}
    trials = tuple(range(len(next(iter(values["Control"].values())))))
    beside_paper = options.pop("beside_paper", False)
    return StudyTables("hand made", "Control", tuple(values), trials, options, beside_paper, arrays, intervals)


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
    assert rows_of(tables, "table-2")["Control"] == ("0.5000", "–", "–", "–", "–", "0.9072")
    assert rows_of(tables, "table-3a")["Control"] == ("0.999997", "–", "–", "–", "0.93", "0.82", "0.72", "0.82")


def test_one_trial_has_no_spread_and_a_missing_metric_no_number() -> None:
    tables = hand_made({"Control": {"auroc": [0.9], "epochs_to_convergence": [math.nan]}})
    assert rows_of(tables, "table-1")["Control"] == ("0.9000 (–)", "– (–)")
    assert rows_of(tables, "convergence")["Control"] == ("–",)
    assert tables.to_json()["table1"]["Control"]["auroc"] == {"mean": 0.9, "sd": None}


def test_differences_are_marked_where_their_interval_excludes_zero() -> None:
    tables = hand_made({"Control": {"auroc": [0.9]}, "E-Mixup": {"auroc": [0.95]}})
    tables.intervals["E-Mixup"]["ece"] = Interval(0.1, -0.05, 0.15)
    cells = rows_of(tables, "differences")["E-Mixup"]
    assert cells[0] == "+0.1000 [+0.0500, +0.1500] *"
    assert cells[2] == "+0.1000 [-0.0500, +0.1500]"
    assert "Control" not in rows_of(tables, "differences")


def test_means_pass_over_trials_without_a_value() -> None:
    values = np.array([[1.0, np.nan, 2.0], [3.0, np.nan, np.inf]])
    np.testing.assert_array_equal(mean_over_trials(values), [2, np.nan, 2])
    np.testing.assert_allclose(spread_over_trials(values), [math.sqrt(2), np.nan, np.nan])


def test_markdown_keeps_hostile_names_in_their_cells() -> None:
    table = TextTable("key", "Title", "Caption.", ("Method", "A"), (("a|b *<i>", "1"),), frozenset({(0, 1)}))
    assert table.markdown().splitlines()[-1] == r"| a\|b \*&lt;i> | **1** |"


def test_tables_equal_scikit_learn_on_the_logits_that_were_kept(study: StudyFolder, report: ReportPaths) -> None:
    """Tables 1 to 3 again, from the files alone."""
    written = json.loads(report.tables_json.read_text())
    recomputed = {
        method: [recompute(study.path, method, trial) for trial in written["trials"]] for method in written["methods"]
    }
    for method, trials in recomputed.items():
        expect = {metric: np.array([trial[metric] for trial in trials]) for metric in trials[0]}
        check(written["table1"][method], expect, ["auroc", "aupr"])
        check(written["table2"][method], expect, [*CALIBRATION])
        for heuristic in ("intersection", "tp_ratio"):
            of_heuristic = {metric.removesuffix(f"/{heuristic}"): values for metric, values in expect.items()}
            numbers = written["table3"][method][heuristic]
            check(numbers, of_heuristic, ["threshold", "accuracy_id", "accuracy_none", "accuracy"])
        if method == written["control"]:
            continue
        for metric in ("auroc", "aupr"):
            difference = expect[metric] - [trial[metric] for trial in recomputed["Control"]]
            check(written["table1"][method], {f"{metric}_difference": difference}, [f"{metric}_difference"])
            assert written["differences"][method][metric]["difference"] == pytest.approx(difference.mean(), abs=1e-6)
        for metric in ("ece", "correlation"):
            mean = np.mean(expect[metric] - [trial[metric] for trial in recomputed["Control"]])
            assert written["differences"][method][metric]["difference"] == pytest.approx(mean, abs=1e-6)


def check(numbers: dict[str, Any], expect: dict[str, Array], metrics: list[str]) -> None:
    for metric in metrics:
        assert numbers[metric]["mean"] == pytest.approx(expect[metric].mean(), abs=1e-6), metric
        assert numbers[metric]["sd"] == pytest.approx(expect[metric].std(ddof=1), abs=1e-6), metric


def recompute(folder: Path, method: str, trial: int) -> dict[str, float]:
    """Every number of a run with numpy and scikit-learn, as somebody would who has the folder only."""
    run = folder / "runs" / method.lower().replace(" ", "-") / str(trial)
    record = json.loads((run / "run.json").read_text())
    items = pa.parquet.read_table(folder / f"trials/{trial}.parquet").to_pylist()
    names = record["class_names"]
    labels = np.array([names.index(r["label"]) if r["label"] in names else -1 for r in items if r["part"] == "test"])
    logits = np.load(run / "logits.npy").astype(np.float32)
    probabilities = (1 / (1 + np.exp(-logits))).astype(np.float64)  # float32, as the study has them: ties count
    confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    known, right = labels >= 0, predicted == labels

    columns = np.concatenate([probabilities, 1 - confidence[:, None]], axis=1)
    truth = np.where(known, labels, len(names))[:, None] == np.arange(len(names) + 1)
    present = truth.any(axis=0)
    average = {"average": "weighted"}
    values = {
        "auroc": roc_auc_score(truth[:, present], columns[:, present], **average),
        "aupr": average_precision_score(truth[:, present], columns[:, present], **average),
        "correlation": correlation(confidence, right),
        "correlation_id": correlation(confidence[known], right[known]),
        "ece": calibration_error(confidence, right, np.floor(confidence * 15).clip(max=14)),
        "adaptive_ece": calibration_error(confidence, right, middle_ranks(confidence) * 15 // len(labels)),
        "classwise_ece": np.mean(
            [calibration_error(p, labels == c, np.floor(p * 15).clip(max=14)) for c, p in enumerate(probabilities.T)]
        ),
    }
    for heuristic, threshold in record["thresholds"].items():
        decided = np.where(confidence > threshold, predicted, -1) == labels
        accuracies = {"accuracy_id": decided[known], "accuracy_none": decided[~known], "accuracy": decided}
        values |= {f"{name}/{heuristic}": rows.mean() for name, rows in accuracies.items()}
        values[f"threshold/{heuristic}"] = threshold
    return values


def correlation(confidence: Array, right: Array) -> float:
    index = np.floor(confidence * 10).clip(max=9)
    bins = [(confidence[index == b].mean(), right[index == b].mean()) for b in np.unique(index)]
    return float(np.corrcoef(np.transpose(bins))[0, 1])


def middle_ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts + 1) / 2)[inverse]


def calibration_error(confidence: Array, right: Array, index: Array) -> float:
    gaps = [abs((confidence[index == b] - right[index == b]).sum()) for b in np.unique(index)]
    return float(np.sum(gaps) / len(right))


def test_console_shows_every_table(tables: StudyTables) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(tables)
    text = console.export_text()
    assert all(table.title in text for table in tables.tables())
    assert all(cell in text for row in tables.tables()[0].rows for cell in row)


def test_markdown_file_holds_the_printed_numbers(report: ReportPaths, tables: StudyTables) -> None:
    text = report.tables_markdown.read_text()
    assert all(cell in text for cell in tables.tables()[1].rows[0])


def test_unfinished_and_diverged_methods_are_left_out_by_name(study: StudyFolder, tmp_path: Path) -> None:
    shutil.copytree(study.path, tmp_path / "copy")
    folder = StudyFolder(tmp_path / "copy")
    (folder.run_path("E-Stitchup", 1) / "run.json").unlink()
    record = folder.run_path("Soft E-Stitchup", 2) / "run.json"
    record.write_text(record.read_text().replace('"diverged": false', '"diverged": true'))
    tables = study_tables(folder)
    assert tables.methods == ("Control",)
    assert tables.left_out == {
        "E-Stitchup": "not finished in trial 1",
        "Soft E-Stitchup": "diverged in trial 2",
    }
    assert "E-Stitchup: not finished in trial 1; left out." in tables.markdown()


def test_a_study_without_its_control_or_results_is_explained(study: StudyFolder, tmp_path: Path) -> None:
    shutil.copytree(study.path, tmp_path / "copy")
    folder = StudyFolder(tmp_path / "copy")
    (folder.path / "results.parquet").unlink()
    with pytest.raises(DataError, match=r"results\.parquet: not there.*estitchup study"):
        study_tables(folder)
    (folder.run_path("Control", 0) / "run.json").unlink()
    with pytest.raises(DataError, match="'Control', is not finished in trial 0"):
        study_tables(folder)

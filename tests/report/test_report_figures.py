"""Every figure, read from its chart as a browser would, against numpy on the logits that were kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kept import Array, Kept, kept
from made_study import METHODS
from PIL import Image

from estitchup_pl.report import ReportPaths
from estitchup_pl.report.curves import PLOT_GRID, MethodCurves, band, method_curves
from estitchup_pl.report.figures import FIGURES, RISK_OVER_COVERAGE, page_panel, panels
from estitchup_pl.report.runs import StudyRuns
from estitchup_pl.study import StudyFolder

Chart = dict[str, Any]
Points = dict[str, list[tuple[Any, ...]]]
TOLERANCE = 1.01e-4  # four decimals are drawn


@pytest.fixture(params=METHODS)
def curves(request: pytest.FixtureRequest, runs: StudyRuns) -> MethodCurves:
    return method_curves(request.param, runs.of(request.param))


def layers(chart: Chart, data: Chart | None = None) -> Iterator[Chart]:
    """Innermost layers, each with the data that it draws."""
    data = chart.get("data", data)
    for part in chart.get("layer", ()):
        yield from layers(part, data)
    if "layer" not in chart:
        yield {**chart, "data": data}


def drawn(chart: Chart, mark: str, number: int = 0) -> Points:
    """What a layer draws: for each series the values that go to x, x2, y and y2."""
    layer = [layer for layer in layers(chart) if layer["mark"]["type"] == mark][number]
    encoding = layer["encoding"]
    fields = [encoding[channel]["field"] for channel in ("x", "x2", "y", "y2") if channel in encoding]
    name = (encoding.get("color") or encoding.get("strokeDash") or {}).get("field")
    points: Points = {}
    for row in layer["data"]["values"]:
        row = {"middle": (row["x"] + row.get("x2", 0)) / 2, **row}
        points.setdefault(row.get(name, ""), []).append(tuple(row[field] for field in fields))
    return points


def chart_of(number: int, curves: MethodCurves) -> Chart:
    chart = page_panel(FIGURES[number - 3], curves)
    assert chart is not None
    return chart


def of_trials(study: StudyFolder, method: str, part: str = "test") -> list[Kept]:
    return [kept(study, method, trial, part) for trial in study.header["trials"]]


def means(values: Array) -> Array:
    return np.nanmean(values, axis=0)


def ends(values: Array, highest: float = 1.0) -> Array:
    mean, spread = means(values), np.nanstd(values, axis=0, ddof=1)
    return np.stack([(mean - spread).clip(min=0), (mean + spread).clip(max=highest)], axis=-1)


def over_thresholds(trials: list[Kept], measure: Callable[[Kept, Array], float]) -> Array:
    """A measure of the decisions at each threshold, ``(trials, thresholds)``."""
    return np.array([[measure(trial, trial.decided(threshold)) for threshold in PLOT_GRID] for trial in trials])


def overall(trial: Kept, decided: Array) -> float:
    return float((decided == trial.labels).mean())


def known(trial: Kept, decided: Array) -> float:
    return float((decided == trial.labels)[trial.known].mean())


def none(trial: Kept, decided: Array) -> float:
    return float((decided == -1)[~trial.known].mean())


def ratio(hits: Array, claimed: Array, true: Array) -> float:
    errors = (claimed & ~hits).sum() + (true & ~hits).sum()
    return hits.sum() / errors if errors else np.nan


def ratio_known(trial: Kept, decided: Array) -> float:
    return ratio((decided == trial.labels) & trial.known, decided >= 0, trial.known)


def ratio_none(trial: Kept, decided: Array) -> float:
    return ratio((decided == -1) & ~trial.known, decided == -1, ~trial.known)


def check_lines(chart: Chart, expected: dict[str, Array], number: int = 0) -> None:
    lines = drawn(chart, "line", number)
    assert lines.keys() == expected.keys()
    for series, values in expected.items():
        np.testing.assert_allclose([x for x, _ in lines[series]], PLOT_GRID)
        np.testing.assert_allclose([y for _, y in lines[series]], means(values), atol=TOLERANCE, err_msg=series)


def check_bands(chart: Chart, expected: dict[str, Array], number: int = 0) -> None:
    areas = drawn(chart, "area", number)
    assert areas.keys() == expected.keys()
    for series, values in expected.items():
        np.testing.assert_allclose([y for _, *y in areas[series]], ends(values), atol=TOLERANCE, err_msg=series)


def test_figure_3_shows_known_and_none_accuracy_over_thresholds(study: StudyFolder, curves: MethodCurves) -> None:
    trials = of_trials(study, curves.method)
    expected = {"known": over_thresholds(trials, known), "none": over_thresholds(trials, none)}
    check_lines(chart_of(3, curves), expected)
    check_bands(chart_of(3, curves), expected)


def in_bins(trials: list[Kept], bins: int, measure: Callable[[Kept, Array], float]) -> Array:
    """A measure of the rows in each bin of confidence, ``(trials, bins)``; NaN where there are none."""
    values = []
    for trial in trials:
        index = np.floor(trial.confidence * bins).clip(max=bins - 1)
        values.append([measure(trial, index == b) if (index == b).any() else np.nan for b in range(bins)])
    return np.array(values)


def test_figure_4_shows_accuracy_in_bins_at_their_mean_confidence(study: StudyFolder, curves: MethodCurves) -> None:
    trials = of_trials(study, curves.method)
    accuracy = in_bins(trials, 10, lambda trial, rows: float(trial.right[rows].mean()))
    confidence = means(in_bins(trials, 10, lambda trial, rows: float(trial.confidence[rows].mean())))
    chart = chart_of(4, curves)
    edges = np.arange(11) / 10
    expected = np.stack([edges[:-1], edges[1:], means(accuracy)], axis=1)
    np.testing.assert_allclose(drawn(chart, "bar")[""], expected, atol=TOLERANCE)
    np.testing.assert_allclose(
        drawn(chart, "point")[""], np.stack([confidence, means(accuracy)], axis=1), atol=TOLERANCE
    )
    several = np.isfinite(accuracy).sum(axis=0) > 1
    rules = np.array(drawn(chart, "rule")[""])
    np.testing.assert_allclose(rules[several, 0], confidence[several], atol=TOLERANCE)
    np.testing.assert_allclose(rules[several, 1:], ends(accuracy)[several], atol=TOLERANCE)
    assert drawn(chart, "line")[""] == [(0, 0), (1, 1)]


def test_figure_5_shows_overall_and_none_accuracy_over_epochs(study: StudyFolder, curves: MethodCurves) -> None:
    files = [study.run_path(curves.method, trial) / "curve.parquet" for trial in study.header["trials"]]
    tables = [pq.read_table(file) for file in files]
    chart = chart_of(5, curves)
    for series, column in (("overall", "accuracy"), ("none", "accuracy_none")):
        values = np.array([table[column].to_numpy() for table in tables])
        expected = np.stack([tables[0]["epoch"].to_numpy(), means(values)], axis=1)
        np.testing.assert_allclose(drawn(chart, "line")[series], expected, atol=TOLERANCE, err_msg=series)
        np.testing.assert_allclose([y for _, *y in drawn(chart, "area")[series]], ends(values), atol=TOLERANCE)
    assert drawn(chart, "line").keys() == {"overall", "none"}


def test_figure_6_shows_how_thresholds_were_chosen(study: StudyFolder, curves: MethodCurves) -> None:
    trials = of_trials(study, curves.method, "val")
    chart = chart_of(6, curves)
    accuracies = {"overall": over_thresholds(trials, overall), "none": over_thresholds(trials, none)}
    ratios = {"known": over_thresholds(trials, ratio_known), "none": over_thresholds(trials, ratio_none)}
    check_lines(chart, accuracies)
    check_bands(chart, accuracies)
    check_lines(chart, ratios, number=1)
    dashes = [layer["mark"]["strokeDash"] for layer in layers(chart) if layer["mark"]["type"] == "line"]
    assert dashes == [[1, 0], [5, 3]]  # accuracies are solid, ratios dashed
    assert chart["resolve"] == {"scale": {"y": "independent"}}
    chosen = {
        name: np.mean([trial.thresholds[heuristic] for trial in trials])
        for name, heuristic in (("intersection", "intersection"), ("TP ratio", "tp_ratio"))
    }
    rules = drawn(chart, "rule")
    assert {name: x for name, [(x,)] in rules.items()} == pytest.approx(chosen, abs=1e-6)


def test_figure_7_shows_the_share_of_rows_in_bins_of_confidence(study: StudyFolder, curves: MethodCurves) -> None:
    trials = of_trials(study, curves.method)
    edges = np.arange(21) / 20
    shares = np.array([np.histogram(trial.confidence, edges)[0] / len(trial.labels) for trial in trials])
    chart = chart_of(7, curves)
    expected = np.stack([edges[:-1], edges[1:], means(shares)], axis=1)
    np.testing.assert_allclose(drawn(chart, "bar")[""], expected, atol=TOLERANCE)
    rules = np.column_stack([edges[:-1] + 0.025, ends(shares)])
    np.testing.assert_allclose(drawn(chart, "rule")[""], rules, atol=TOLERANCE)


def test_risk_over_coverage_shows_errors_among_the_surest_rows(study: StudyFolder, curves: MethodCurves) -> None:
    trials = of_trials(study, curves.method)
    shares = []
    for trial in trials:
        confidence = np.float32(trial.confidence)
        taken = [
            np.sort(confidence)[::-1][int(np.ceil(len(confidence) * percent / 100 - 1e-9)) - 1]
            for percent in range(1, 101)
        ]
        shares.append([1 - trial.right[confidence >= least].mean() for least in taken])  # with all that are as sure
    chart = page_panel(RISK_OVER_COVERAGE, curves)
    assert chart is not None
    expected = np.column_stack([np.arange(1, 101) / 100, means(np.array(shares))])
    np.testing.assert_allclose(drawn(chart, "line")[""], expected, atol=TOLERANCE)
    assert max(mean for _, mean in drawn(chart, "line")[""]) > 0


def test_a_picture_has_one_panel_a_method_under_its_name(runs: StudyRuns) -> None:
    methods = [method_curves(method, runs.of(method)) for method in runs.methods]
    without = MethodCurves("Forest", {**methods[0].data, "epochs": []})
    for figure in FIGURES:
        chart = panels(figure, [*methods, without])
        assert chart is not None
        names = [*METHODS] if figure.key == "figure-5" else [*METHODS, "Forest"]
        assert [panel["title"] for panel in chart["concat"]] == names
        for panel, curves in zip(chart["concat"], methods, strict=False):
            assert panel["layer"] == page_panel(figure, curves)["layer"]  # type: ignore[index]
    assert panels(FIGURES[2], [without]) is None


def test_every_figure_is_a_picture_that_is_not_blank(report: ReportPaths) -> None:
    assert [path.name for path in report.figures] == [f"figure-{number}.png" for number in range(3, 8)]
    for path in report.figures:
        with Image.open(path) as image:
            assert image.width > 1000
            assert image.height > 300
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
        assert 0.02 < (pixels != 255).any(axis=1).mean() < 0.6, path.name
        assert len(np.unique(pixels @ [1, 256, 65536])) > 20, path.name


def test_bands_reach_one_standard_deviation_within_what_is_possible() -> None:
    points = band([[0.2, 0.9, np.nan], [0.4, 1.0, np.nan]], highest=1.0)
    assert points == [(0.3, 0.1586, 0.4414), (0.95, 0.8793, 1.0), (None, None, None)]
    assert band([[0.1, 5.0], [0.5, 9.0]]) == [(0.3, 0.0172, 0.5828), (7.0, 4.1716, 9.8284)]
    assert band([[0.0], [0.5]])[0][1] == 0


def test_thresholds_lie_closer_where_overconfident_confidences_crowd() -> None:
    near_one = [f"0.{'9' * nines}{digit}" for nines in (3, 4, 5) for digit in range(1, 10)]
    expected = [*(f"{step / 100:.2f}" for step in range(100)), "0.995", "0.999", *near_one, "1"]
    assert PLOT_GRID.tolist() == [float(text) for text in expected]


def test_long_curves_are_thinned_and_shortened_to_the_shortest(runs: StudyRuns) -> None:
    def run_of(epochs: int, level: float) -> Any:
        columns = {name: np.full(epochs, level) for name in ("accuracy", "accuracy_id", "accuracy_none")}
        return replace(runs.runs["Control", 0], curve=pa.table({"epoch": np.arange(1, epochs + 1), **columns}))

    of_trials = [run_of(500, 0.2), run_of(450, 0.4), replace(runs.runs["Control", 0], curve=None)]
    rows = [row for row in method_curves("Control", of_trials).data["epochs"] if row["series"] == "overall"]
    assert [row["x"] for row in rows] == [*range(1, 451, 3)]
    assert {row["mean"] for row in rows} == {0.3}

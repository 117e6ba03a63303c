"""The figures and the page: what is in the files, and what a browser makes of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_study import HOSTILE
from PIL import Image

from estitchup_pl.batch import NONE
from estitchup_pl.functional import none_aware_accuracy
from estitchup_pl.report import ReportPaths
from estitchup_pl.report.curves import band, method_curves
from estitchup_pl.report.explorer import NONE_NAME, SLIDER_GRID, class_results, mean_outcome, outcome
from estitchup_pl.report.figures import FIGURES, page_panel
from estitchup_pl.report.page import embedded_json
from estitchup_pl.report.runs import StudyRuns
from estitchup_pl.report.verdict import verdict
from estitchup_pl.study import StudyFolder

CHROMIUM = Path("/usr/bin/chromium")


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


def test_curves_are_means_over_trials(study: StudyFolder, runs: StudyRuns) -> None:
    curves = method_curves("Control", runs.of("Control"))
    point = next(row for row in curves.accuracies if row["x"] == 0.5 and row["series"] == "none")
    rejected = []
    for trial in runs.trials:
        predictions = study.predictions("Control", trial)
        rejected.append((predictions.probabilities[predictions.labels == NONE].amax(1) <= 0.5).double().mean())
    assert point["mean"] == pytest.approx(float(torch.stack(rejected).mean()), abs=1e-4)
    assert point["high"] - point["mean"] == pytest.approx(float(torch.stack(rejected).std()), abs=2e-4)
    assert sum(row["mean"] for row in curves.histogram) == pytest.approx(1, abs=1e-3)
    assert [row["x"] for row in curves.thresholds] == pytest.approx(
        [np.mean([run.record.thresholds[name] for run in runs.of("Control")]) for name in ("intersection", "tp_ratio")],
        abs=1e-6,
    )


def test_a_method_without_epochs_has_no_panel_in_figure_5(runs: StudyRuns) -> None:
    curves = method_curves("Control", runs.of("Control"))
    without = type(curves)(**{**vars(curves), "epochs": []})
    assert [page_panel(figure, without) is None for figure in FIGURES] == [False, False, True, False, False]


def test_outcomes_are_those_of_every_threshold_by_itself(study: StudyFolder, runs: StudyRuns) -> None:
    run, predictions = runs.runs["E-Stitchup", 2], study.predictions("E-Stitchup", 2)
    thresholds = [0.0, 0.3, run.record.thresholds["intersection"], 0.9, 1.0]
    result = outcome(run, thresholds)
    for place, threshold in enumerate(thresholds):
        accuracies = none_aware_accuracy(predictions.probabilities, predictions.labels, threshold)
        expected = [accuracies.accuracy_id, accuracies.accuracy_none, accuracies.accuracy]
        assert [field[place] for field in result[:3]] == pytest.approx([float(value) for value in expected])
        rejected = (predictions.probabilities.amax(1) <= threshold).sum()
        assert result.labelling[place] == rejected
        assert result.coverage[place] == pytest.approx(1 - float(rejected) / len(predictions.labels))


def test_classes_come_the_worst_first_with_none_among_them(study: StudyFolder, runs: StudyRuns) -> None:
    rows = class_results(runs.of("E-Stitchup"))
    assert [row[2] for row in rows] == sorted(row[2] for row in rows)
    all_predictions = [study.predictions("E-Stitchup", trial) for trial in runs.trials]
    none = next(row for row in rows if row[0] == NONE_NAME)
    assert none[1] == sum(int((predictions.labels == NONE).sum()) for predictions in all_predictions)
    right = ants = 0
    for run, predictions in zip(runs.of("E-Stitchup"), all_predictions, strict=True):
        index = predictions.class_names.index("ant")
        confidence, predicted = predictions.probabilities[predictions.labels == index].max(1)
        right += int(((predicted == index) & (confidence > run.record.thresholds["intersection"])).sum())
        ants += len(predicted)
    assert next(row for row in rows if row[0] == "ant")[1:3] == [
        ants,
        pytest.approx(right / ants, abs=1e-4),
    ]


def test_the_verdict_names_the_methods_that_the_tables_show_best(report: ReportPaths) -> None:
    tables = report.tables
    ranking, calibration, balance = (answer.method for answer in verdict(tables))
    assert tables.mean(ranking, "aupr") == max(tables.mean(method, "aupr") for method in tables.methods)
    assert tables.mean(calibration, "ece") == min(tables.mean(method, "ece") for method in tables.methods)
    smaller = {
        method: min(tables.mean(method, f"accuracy_{kind}/intersection") for kind in ("id", "none"))
        for method in tables.methods
    }
    assert smaller[balance] == max(smaller.values())


def test_hostile_names_stay_text(report: ReportPaths) -> None:
    text = report.html.read_text(encoding="utf-8")
    assert "<b>" not in text
    assert text.count("</script>") == 3  # the data, the libraries, the page's own
    data = json.loads(re.search(r'id="data">(.*)</script>', text)[1])  # type: ignore[index]
    assert any(HOSTILE in item[0] for item in data["methods"][0]["examples"][0])
    assert json.loads(embedded_json({"id": HOSTILE})) == {"id": HOSTILE}


def test_writing_again_leaves_no_other_file_behind(report: ReportPaths) -> None:
    assert not [path for path in report.html.parent.rglob("*") if path.name.endswith(".tmp")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"no browser: {CHROMIUM} is not installed")
    api = pytest.importorskip("playwright.sync_api", reason="the extra dev is not installed")
    with api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def opened(browser: Any, report: ReportPaths) -> Iterator[Any]:
    """The page in a window as wide as a phone, and all that it asked for or complained of."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="light")
    tab = context.new_page()
    tab.complaints, tab.requests = [], []
    tab.on("console", lambda message: tab.complaints.append(message.text))
    tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
    tab.on("request", lambda request: tab.requests.append(request.url))
    tab.goto(report.html.as_uri())
    tab.wait_for_selector("html[data-ready]", timeout=60_000)
    yield tab
    context.close()


def test_the_page_asks_nothing_of_a_network_and_complains_of_nothing(opened: Any, report: ReportPaths) -> None:
    assert opened.requests == [report.html.as_uri()]
    assert opened.complaints == []
    assert opened.locator(".panel svg").count() == 1 + 5 * 3


def test_nothing_is_wider_than_a_phone_but_tables_in_their_boxes(opened: Any) -> None:
    assert opened.evaluate("document.documentElement.scrollWidth") == 390
    assert opened.evaluate("document.querySelector('#table-3a ~ .scroll').scrollWidth") > 390


@pytest.mark.parametrize("method", ["Control", "E-Stitchup"])
def test_the_slider_shows_the_numbers_that_python_computes(opened: Any, runs: StudyRuns, method: str) -> None:
    views = {"mean of 3 trials": runs.of(method), "trial 1": [runs.runs[method, 1]]}
    for view, of_view in views.items():
        opened.select_option("#method", label=method)
        opened.select_option("#view", label=view)
        chosen = {
            h: float(np.mean([run.record.thresholds[h] for run in of_view])) for h in ("intersection", "tp_ratio")
        }
        thresholds = np.sort([*SLIDER_GRID, *chosen.values()])
        for place in (0, 250, 731, len(thresholds) - 20, len(thresholds) - 1):
            opened.locator("#slider").evaluate("(s, v) => { s.value = v; s.dispatchEvent(new Event('input')) }", place)
            assert float(opened.inner_text("#threshold-value")) == pytest.approx(thresholds[place], abs=5e-5)
            assert shown(opened) == expected(of_view, thresholds[place])
        for heuristic, threshold in chosen.items():
            opened.click(f"#go-{heuristic}")
            assert opened.get_attribute(f"#go-{heuristic}", "aria-pressed") == "true"
            assert shown(opened) == expected(of_view, threshold)


def shown(tab: Any) -> list[str]:
    return [tab.inner_text(f"#{name}") for name in ("known", "none", "overall", "coverage", "labelling")]


def expected(runs: list[Any], threshold: float) -> list[str]:
    result = mean_outcome(runs, [threshold])
    shares = [f"{round(float(values[0]) * 10000) / 100:.2f} %" for values in result[:4]]
    return [*shares, f"{round(float(result.labelling[0])):,}"]


def test_the_slider_moves_by_keyboard(opened: Any) -> None:
    opened.click("#go-intersection")
    before = int(opened.input_value("#slider"))
    opened.focus("#slider")
    opened.keyboard.press("ArrowRight")
    assert int(opened.input_value("#slider")) == before + 1
    assert opened.get_attribute("#slider", "aria-valuetext") == opened.inner_text("#threshold-value")


def test_classes_are_sorted_by_the_head(opened: Any) -> None:
    opened.click("#class-table button[data-column='1']")
    counts = [
        int(text.replace(",", "")) for text in opened.locator("#class-table tbody td:nth-child(2)").all_inner_texts()
    ]
    assert counts == sorted(counts)
    assert opened.get_attribute("#class-table th:nth-child(2)", "aria-sort") == "ascending"
    opened.click("#class-table button[data-column='1']")
    assert opened.get_attribute("#class-table th:nth-child(2)", "aria-sort") == "descending"


def test_dark_mode_changes_the_page_and_its_charts(opened: Any) -> None:
    colours = """() => [getComputedStyle(document.body).backgroundColor,
        getComputedStyle(document.querySelector('#outcome-chart svg .role-axis-title text')).fill]"""
    light = opened.evaluate(colours)
    opened.emulate_media(color_scheme="dark")
    dark = opened.evaluate(colours)
    opened.emulate_media(color_scheme="light")
    assert light == ["rgb(255, 255, 255)", "rgb(27, 36, 48)"]
    assert dark == ["rgb(18, 22, 28)", "rgb(230, 234, 240)"]


def test_it_prints_in_light_colours_without_its_controls(opened: Any) -> None:
    opened.emulate_media(media="print", color_scheme="dark")
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not opened.locator("#slider").is_visible()
    opened.emulate_media(media="screen", color_scheme="light")

"""The page in a browser."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kept import kept
from made_study import METHODS

from estitchup_pl.report import ReportPaths, StudyTables
from estitchup_pl.report.explorer import SLIDER_GRID, mean_outcome
from estitchup_pl.report.runs import StudyRuns
from estitchup_pl.study import StudyFolder

INSTALLED = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium: Playwright's own (``playwright install chromium``), or one that is installed on this machine."""
    api = pytest.importorskip("playwright.sync_api", reason="no browser: Playwright, of the extra dev, is missing")
    with api.sync_playwright() as driver:
        try:
            chromium = driver.chromium.launch()
        except api.Error:
            path = next(filter(None, map(shutil.which, INSTALLED)), None)
            if path is None:
                pytest.skip("no browser: run `playwright install chromium`, or install your system's chromium")
            chromium = driver.chromium.launch(executable_path=path)
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
    assert opened.locator(".panel svg").count() == 1 + 5 * len(METHODS)


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
    return [tab.inner_text(f"#{name}") for name in ("known", "none", "overall", "coverage", "accepted", "labelling")]


def expected(runs: list[Any], threshold: float) -> list[str]:
    result = mean_outcome(runs, [threshold])
    units = [float(values[0]) * 10000 for values in result[:5]]
    shares = ["–" if np.isnan(share) else f"{round(share) / 100:.2f} %" for share in units]
    return [*shares, f"{round(float(result.labelling[0])):,}"]


@pytest.mark.parametrize("view", ["mean of 3 trials", "trial 2"])
def test_items_near_the_threshold_are_shown_with_their_own_decisions(
    opened: Any, study: StudyFolder, view: str
) -> None:
    opened.select_option("#method", label="E-Stitchup")
    opened.select_option("#view", label=view)
    opened.click("#go-tp_ratio")
    trial = kept(study, "E-Stitchup", 2 if view == "trial 2" else 0)
    threshold = float(opened.inner_text("#threshold-value"))
    assert opened.inner_text("#examples-of") == f"E-Stitchup, trial {2 if view == 'trial 2' else 0}"
    order = np.argsort(trial.confidence)
    middle = int((trial.confidence <= threshold).sum())
    expected = []
    for row in order[middle - 6 : middle + 6][::-1]:
        item, predicted = trial.items[row], trial.class_names[trial.predicted[row]]
        known, accepted = bool(trial.known[row]), trial.confidence[row] > threshold
        decision = (
            ("right" if trial.right[row] else "wrong") if accepted else "rejected" if known else "rejected, rightly"
        )
        label = item["label"] if known else f"{item['label']} (“none”)"
        expected.append([item["id"], label, predicted, f"{trial.confidence[row]:.4f}", decision])
    rows = opened.locator("#examples tbody tr").all()
    assert [row.locator("td").all_text_contents() for row in rows] == expected


def test_classes_are_shown_as_they_are_in_the_data(opened: Any) -> None:
    opened.select_option("#class-method", label="E-Stitchup")
    data = opened.evaluate("JSON.parse(document.getElementById('data').textContent).methods[1].classes")
    rows = opened.locator("#class-table tbody tr").all()
    expected = [
        [name, str(test), str(train), f"{accuracy:.4f}{few}", f"{certainty:.4f}", f"{precision:.4f}"]
        for name, test, train, accuracy, certainty, precision, few in data
    ]
    assert [row.locator("th, td").all_text_contents() for row in rows] == expected
    heads = opened.locator("#class-table thead th").all_inner_texts()
    assert [head.strip(" ▲") for head in heads] == [
        "Class", "Test rows", "Training rows", "Accuracy", "Mean confidence", "AUPR"
    ]  # fmt: skip


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


def test_a_table_is_downloaded_as_csv_and_no_cell_is_a_formula(opened: Any, tables: StudyTables) -> None:
    table = next(table for table in tables.tables() if table.key == "table-1")
    with opened.expect_download() as begun:
        opened.click("button[data-file='table-1']")
    assert begun.value.suggested_filename == "table-1.csv"
    lines = list(csv.reader(Path(begun.value.path()).read_text("utf-8-sig").splitlines()))
    assert lines == [list(table.columns), *map(list, table.rows)]
    opened.evaluate("document.querySelector('#table-1 ~ .scroll tbody th').textContent = '=1+1'")
    with opened.expect_download() as begun:
        opened.click("button[data-file='table-1']")
    assert Path(begun.value.path()).read_text("utf-8-sig").splitlines()[1].startswith('"\'=1+1",')


def test_confusions_follow_the_method_and_stand_as_in_the_data(opened: Any) -> None:
    opened.select_option("#class-method", label="Control")
    rows = opened.evaluate("JSON.parse(document.getElementById('data').textContent).methods[0].confusions")
    shown = opened.locator("#confusion-table tbody tr").all()
    assert opened.inner_text("#confusions-of") == "Control"
    assert len(shown) == len(rows) > 0
    for row, (label, known, said, times, ids) in zip(shown, rows, strict=True):
        cells = row.locator("td").all_text_contents()
        assert cells == [label if known else f"{label} (“none”)", said, str(times), "".join(ids)]

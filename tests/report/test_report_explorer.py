"""The page's own data, as it stands in the file, against numpy and scikit-learn on the logits that were kept."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from html import unescape
from typing import Any

import numpy as np
import pytest
from kept import Array, Kept, kept
from made_study import HOSTILE, METHODS
from scipy.stats import norm
from sklearn.metrics import average_precision_score

from estitchup_pl.report import StudyTables
from estitchup_pl.report.curves import method_curves
from estitchup_pl.report.explorer import NONE_NAME, SLIDER_GRID, explorer
from estitchup_pl.report.figures import FIGURES, page_panel
from estitchup_pl.report.runs import StudyRuns
from estitchup_pl.report.verdict import verdict
from estitchup_pl.study import StudyFolder

HEURISTICS = ("intersection", "tp_ratio")


@pytest.fixture(scope="module")
def data(page: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(re.search(r'id="data">(.*)</script>', page)[1])  # type: ignore[index]
    return content


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def trials(study: StudyFolder, method: str) -> list[Kept]:
    return [kept(study, method, trial) for trial in study.header["trials"]]


@pytest.fixture
def content(data: dict[str, Any], method: str) -> dict[str, Any]:
    return next(entry for entry in data["methods"] if entry["name"] == method)


def mean_threshold(trials: list[Kept], heuristic: str) -> float:
    return float(np.mean([trial.thresholds[heuristic] for trial in trials]))


def shares(trial: Kept, threshold: float) -> list[float]:
    decided = trial.decided(threshold)
    right, rejected = decided == trial.labels, decided == -1
    known, none = right[trial.known].mean(), right[~trial.known].mean()
    accepted = right[~rejected & trial.known].sum() / (~rejected).sum() if (~rejected).any() else np.nan
    return [known, none, right.mean(), 1 - rejected.mean(), accepted, rejected.sum()]


def proportion_confint(count: float, rows: int) -> tuple[float, float]:
    """Wilson's interval as the roots of its equation, |share - p| = z sqrt(p (1 - p) / rows)."""
    z, share = norm.ppf(0.975), count / rows
    low, high = np.sort(np.roots([1 + z**2 / rows, -(2 * share + z**2 / rows), share**2]).real)
    return float(low), float(high)


def test_the_slider_looks_up_what_every_threshold_brings(content: dict[str, Any], trials: list[Kept]) -> None:
    views = {"mean of 3 trials": trials, **{f"trial {number}": [trial] for number, trial in enumerate(trials)}}
    assert [view["name"] for view in content["views"]] == [*views]
    for view, of_view in zip(content["views"], views.values(), strict=True):
        thresholds = np.sort([*SLIDER_GRID, *(mean_threshold(of_view, name) for name in HEURISTICS)])
        names = ("known", "none", "overall", "coverage", "accepted", "labelling")
        shown = np.cumsum([view[name] for name in names], axis=1).T
        values = np.array([[shares(trial, t) for trial in of_view] for t in thresholds])
        expected = np.ma.masked_invalid(values).mean(axis=1).filled(-1e-4)  # where nothing is accepted
        np.testing.assert_allclose(shown[:, :5] / 10000, expected[:, :5], atol=0.51e-4)
        np.testing.assert_allclose(shown[:, 5], expected[:, 5], atol=0.51)
        fewest = min(int((~trial.known).sum()) for trial in of_view)
        assert (view.get("few") is not None) == (fewest < 30)
        if fewest < 30:
            ends = np.array([proportion_confint(fewest * share, fewest) for share in expected[:, 1]])
            np.testing.assert_allclose(np.cumsum(view["low"]) / 10000, ends[:, 0], atol=0.51e-4)
            np.testing.assert_allclose(np.cumsum(view["high"]) / 10000, ends[:, 1], atol=0.51e-4)
        assert view["rows"] == round(np.mean([len(trial.labels) for trial in of_view]))
        for name in HEURISTICS:
            place = view["chosen"][name]
            assert thresholds[place["index"]] == mean_threshold(of_view, name)
            assert float(place["text"]) == pytest.approx(mean_threshold(of_view, name), abs=0.51e-4)


def test_the_slider_steps_in_thousandths_and_finer_near_one(data: dict[str, Any]) -> None:
    grid = np.array([float(text) for text in data["grid"]])
    np.testing.assert_allclose(grid, SLIDER_GRID, atol=1e-9)
    assert (np.diff(grid) > 0).all()
    assert grid[:1000] == pytest.approx(np.arange(1000) / 1000)
    assert {0.9999, 0.99999, 0.999999, 1.0} <= {*grid.round(6).tolist()}


def test_without_none_rows_there_is_no_none_accuracy(runs: StudyRuns) -> None:
    known = {
        key: replace(run, test=replace(run.test, labels=run.test.labels.clamp(min=0))) for key, run in runs.runs.items()
    }
    for method in explorer(replace(runs, runs=known))["methods"]:
        for view in method["views"]:
            assert view["none"] is None
            assert view["known"] == view["overall"]
        assert NONE_NAME not in [row[0] for row in method["classes"]]


def example(trial: Kept, row: int) -> list[Any]:
    """What an example shows of a row."""
    item = trial.items[row]
    predicted = trial.class_names[trial.predicted[row]]
    return [item["id"], item["label"], int(trial.known[row]), predicted, trial.confidence[row]]


def test_examples_show_their_own_row_and_lie_around_the_thresholds(content: dict[str, Any], trials: list[Kept]) -> None:
    assert len(content["examples"]) == len(trials)
    for shown, trial in zip(content["examples"], trials, strict=True):
        place = {item["id"]: row for row, item in enumerate(trial.items)}
        for entry in shown:
            *texts, confidence = example(trial, place[entry[0]])
            assert entry[:4] == texts
            assert entry[4] == pytest.approx(confidence, abs=1.5e-6)  # sigmoids differ in their last digit
        assert [entry[4] for entry in shown] == sorted(entry[4] for entry in shown)
        ids = {entry[0] for entry in shown}
        assert len(ids) == len(shown)
        own, mean = trial.thresholds, {name: mean_threshold(trials, name) for name in HEURISTICS}
        for threshold in (*own.values(), *mean.values()):
            for side in (trial.confidence <= threshold, trial.confidence > threshold):
                rows = np.flatnonzero(side)
                nearest = rows[np.argsort(abs(trial.confidence[rows] - threshold))[:6]]
                assert {trial.items[row]["id"] for row in nearest} <= ids
    assert any(HOSTILE in entry[0] for entry in content["examples"][0])


def test_classes_are_those_of_all_trials_the_worst_first(
    content: dict[str, Any], trials: list[Kept], study: StudyFolder
) -> None:
    train = [
        row["label"]
        for trial in study.header["trials"]
        for row in study.trial(trial).to_pylist()
        if row["part"] == "train"
    ]
    names = sorted({name for trial in trials for name in trial.class_names})
    expected = {name: [*class_of(trials, name), train.count(name)] for name in (*names, NONE_NAME)}
    rows = content["classes"]
    assert {row[0] for row in rows} == expected.keys()
    for name, *shown in rows:
        support, accuracy, confidence, aupr, trained = expected[name]
        assert shown[:2] == [support, round(trained / len(trials))]
        assert shown[2:5] == pytest.approx([accuracy, confidence, aupr], abs=0.51e-4)
        low, high = proportion_confint(support * accuracy, support)
        assert shown[5] == (f" [{low:.2f}, {high:.2f}]" if support < 30 else "")
    assert rows == sorted(rows, key=lambda row: (row[3], -row[1]))


def test_confusions_are_the_wrong_decisions_that_were_accepted_the_most_frequent_first(
    content: dict[str, Any], trials: list[Kept]
) -> None:
    found = []
    for trial in trials:
        decided = trial.decided(trial.thresholds["intersection"])
        for row in np.flatnonzero((decided >= 0) & (decided != trial.labels)):
            label, said = trial.items[row]["label"], trial.class_names[decided[row]]
            found.append((label, int(trial.known[row]), said, trial.confidence[row], trial.items[row]["id"]))
    counts = Counter(entry[:3] for entry in found)
    rows = content["confusions"]
    assert [row[3] for row in rows] == sorted(counts.values(), reverse=True)[:10]
    for *pair, times, ids in rows:
        assert counts[tuple(pair)] == times
        surest = sorted((entry for entry in found if entry[:3] == tuple(pair)), key=lambda entry: -entry[3])
        assert ids == list(dict.fromkeys(entry[4] for entry in surest))[:3]


def class_of(trials: list[Kept], name: str) -> list[float]:
    """Test rows, accuracy, mean confidence and AUPR of a class over trials."""
    count, right, confidence, precision = 0, 0, 0.0, 0.0
    for trial in trials:
        index = -1 if name == NONE_NAME else trial.class_names.index(name)
        rows: Array = trial.labels == index
        count += rows.sum()
        right += (trial.decided(trial.thresholds["intersection"]) == index)[rows].sum()
        confidence += trial.confidence[rows].sum()
        column = 1 - trial.confidence if index < 0 else trial.probabilities[:, index]
        precision += rows.sum() * average_precision_score(rows, column)
    return [count, right / count, confidence / count, precision / count]


def test_each_place_on_the_page_holds_the_chart_that_its_label_names(
    page: str, data: dict[str, Any], runs: StudyRuns
) -> None:
    places = re.findall(r'aria-label="([^"]*)" data-panel="(\d+)"', page)
    assert len(places) == len(data["panels"]) == len(FIGURES) * len(METHODS)
    panels = {unescape(label): data["panels"][int(number)] for label, number in places}
    for figure in FIGURES:
        for method in METHODS:
            expected = page_panel(figure, method_curves(method, runs.of(method)))
            assert panels[f"{figure.title}, {method}"] == expected


def test_tables_on_the_page_are_the_tables(page: str, tables: StudyTables) -> None:
    for table in tables.tables():
        section = page[page.index(f'<h3 id="{table.key}">') :].partition("</table>")[0]
        title, caption, *heads = (
            unescape(text)
            for pattern in ("<h3[^>]*>(.*?)</h3>", '<p class="caption">(.*?)</p>', '<th scope="col">(.*?)</th>')
            for text in re.findall(pattern, section)
        )
        assert (title, caption, tuple(heads)) == (table.title, table.caption, table.columns)
        names = re.findall('<th scope="row">(.*?)</th>', section)
        cells = [re.findall("<td>(.*?)</td>", row) for row in section.split("<tr>")[2:]]
        shown = [(unescape(name), *of_row) for name, of_row in zip(names, cells, strict=True)]
        for i, row in enumerate(table.rows):
            marked = [f"<strong>{cell}</strong>" if (i, j) in table.best else cell for j, cell in enumerate(row)]
            assert shown[i] == tuple(marked)
        assert len(shown) == len(table.rows)


def test_the_page_begins_with_the_verdict_and_the_method_that_tells_none_best(
    page: str, data: dict[str, Any], tables: StudyTables
) -> None:
    cards = re.findall(r'<h3>(.*?)</h3><p class="answer">(.*?)</p><p>(.*?)</p>', page)
    assert [tuple(map(unescape, card)) for card in cards] == [tuple(answer) for answer in verdict(tables)]
    assert data["methods"][data["start"]]["name"] == verdict(tables)[-1].method
    assert data["trials"] == ["trial 0", "trial 1", "trial 2"]


def test_the_page_says_what_the_study_was(page: str, study: StudyFolder) -> None:
    facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page[page.index('class="facts"') :]))
    counts = {"train": [], "test": [], "none": []}  # type: dict[str, list[int]]
    for trial in study.header["trials"]:
        rows = study.trial(trial).to_pylist()
        for part in ("train", "test"):
            counts[part].append(sum(row["part"] == part for row in rows))
        counts["none"].append(int((kept(study, "Control", trial).labels < 0).sum()))
    named = {"Training rows": "train", "Test rows": "test", "“None” rows": "none"}
    for name, part in named.items():
        assert facts[name] == f"{min(counts[part])} to {max(counts[part])}"
    assert unescape(facts["Methods"]) == ", ".join(METHODS)
    assert (facts["Control"], facts["Trials"], facts["Epochs"]) == ("Control", "0, 1, 2", "24")


def test_hostile_names_stay_text(page: str, data: dict[str, Any], tables: StudyTables) -> None:
    assert "<b>" not in page
    assert page.count("</script>") == 3  # the data, the libraries, the page's own
    assert "49" not in re.findall(r"<title>(.*)</title>", page)[0]
    assert unescape(re.findall(r"<h1>(.*)</h1>", page)[0]) == f"made {HOSTILE}"
    assert [entry["name"] for entry in data["methods"]] == [*METHODS]
    assert "<b>" not in tables.markdown()

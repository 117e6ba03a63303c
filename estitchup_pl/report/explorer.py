"""Numbers behind the interactive parts of the page: the threshold slider, the classes and the example items.

Everything that the page shows is computed and rounded here; the page looks it up.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from estitchup_pl.batch import NONE
from estitchup_pl.functional import FEW_NONE_ROWS, HEURISTICS
from estitchup_pl.report.averages import Floats, mean_over_trials
from estitchup_pl.report.comparison import count_text
from estitchup_pl.report.curves import NEAR_ONE, curves_at
from estitchup_pl.report.few import interval_of, share_interval
from estitchup_pl.report.items import ShownItems
from estitchup_pl.report.runs import Run, StudyRuns
from estitchup_pl.report.text_table import threshold as threshold_text

SLIDER_GRID: Final[Floats] = np.unique([*(step / 1000 for step in range(1001)), *NEAR_ONE])
"""Thousandths, and finer steps near 1, where the confidences of an overconfident classifier crowd."""
NOTHING: Final = -1
"""What stands for the accuracy of what is accepted where nothing is, in :data:`UNITS`."""
UNITS: Final = 10000
"""A share is kept as a whole number of hundredths of a percent."""
NONE_NAME: Final = '"none"'
_EXAMPLES_NEAR: Final = 8
_CONFUSIONS: Final = 10
_EXAMPLE_STEPS: Final = 50


class Outcome(NamedTuple):
    """What a threshold brings on the test rows, each field ``(thresholds,)``, NaN where there is no such row.

    Attributes:
        known: Accuracy of known classes.
        none: Accuracy of "none".
        overall: Accuracy of all rows.
        coverage: Share of the rows that get a class.
        accepted: Accuracy of the rows that get a class, an accepted "none" row being wrong.
        labelling: Number of rows that get none, and would go to labelling.
    """

    known: Floats
    none: Floats
    overall: Floats
    coverage: Floats
    accepted: Floats
    labelling: Floats


def outcome(run: Run, thresholds: npt.ArrayLike) -> Outcome:
    """Decide the test rows of a run at each threshold."""
    grid = torch.as_tensor(thresholds).to(run.test.acceptance.dtype)
    curves = curves_at(run.test, grid)
    rows = len(run.test.labels)
    ascending, order = run.test.acceptance.sort()
    rejected = torch.searchsorted(ascending, grid, right=True)
    right_from = torch.cat([run.test.correct[order].double().flip(0).cumsum(0).flip(0), torch.zeros(1)])
    accepted = right_from[rejected] / (rows - rejected)  # NaN where nothing is
    accuracies = (curves.accuracy_id, curves.accuracy_none, curves.accuracy)
    return Outcome(*(field.numpy() for field in (*accuracies, 1 - rejected / rows, accepted, rejected.double())))


def mean_outcome(runs: list[Run], thresholds: npt.ArrayLike) -> Outcome:
    """Average the outcomes of several runs, all at the same thresholds."""
    outcomes = [outcome(run, thresholds) for run in runs]
    return Outcome(*(mean_over_trials(field) for field in zip(*outcomes, strict=True)))


def explorer(study: StudyRuns, items: ShownItems | None = None) -> dict[str, Any]:
    """Content of the page's data: thresholds, all methods with their views, classes and examples, and the items' texts.

    Args:
        study: The runs.
        items: Texts and pictures of the items, where they can be shown.
    """
    methods = [_method(method, study) for method in study.methods]
    return {
        "grid": [f"{value:.6f}".rstrip("0").rstrip(".") for value in SLIDER_GRID],
        "methods": methods,
        "items": items.of(_looked_at_first(methods)) if items else [],
    }


def _looked_at_first(methods: list[dict[str, Any]]) -> list[str]:
    """Ids of the items on the page: those of confusions, then those nearest to a threshold, then all others."""
    confused = [item for method in methods for row in method["confusions"] for item in row[-1]]
    runs = [(method["views"][0], examples) for method in methods for examples in method["examples"]]
    near = [entry[0] for view, examples in runs for entry in _nearest(examples, view["chosen"]["intersection"])]
    return [*confused, *near, *(entry[0] for _, examples in runs for entry in examples)]


def _nearest(examples: list[list[Any]], chosen: dict[str, Any]) -> list[list[Any]]:
    """The examples next to a threshold, of which the page shows six on each side."""
    place = bisect_right(examples, float(chosen["text"]), key=lambda entry: float(entry[-1]))
    return examples[max(place - _EXAMPLES_NEAR, 0) : place + _EXAMPLES_NEAR]


def mean_thresholds(runs: list[Run]) -> dict[str, float]:
    """Mean threshold of each heuristic."""
    return {name: float(np.mean([run.record.thresholds[name] for run in runs])) for name in HEURISTICS}


def _method(method: str, study: StudyRuns) -> dict[str, Any]:
    runs = study.of(method)
    views = [{"name": f"trial {trial}", **_view([run])} for trial, run in zip(study.trials, runs, strict=True)]
    mean = [{"name": f"mean of {len(runs)} trials", **_view(runs)}] if len(runs) > 1 else []
    return {
        "name": method,
        "views": mean + views,
        "examples": [_examples(run, mean_thresholds(runs)) for run in runs],
        "classes": class_results(runs),
        "confusions": confusions(runs),
    }


def _view(runs: list[Run]) -> dict[str, Any]:
    """One choice of the slider: a run, or the mean of several."""
    chosen = mean_thresholds(runs)
    thresholds = np.sort([*SLIDER_GRID, *chosen.values()])
    result = mean_outcome(runs, thresholds)
    accepted = np.nan_to_num(result.accepted, nan=NOTHING / UNITS)
    of_rows = result._replace(accepted=accepted)._asdict()
    shares = {name: _steps(np.rint(values * UNITS)) for name, values in of_rows.items() if name != "labelling"}
    return {
        **_of_few(runs, result.none),
        "rows": round(float(np.mean([len(run.test.labels) for run in runs]))),
        "chosen": {
            name: {"index": int(np.searchsorted(thresholds, value)), "text": threshold_text(value)}
            for name, value in chosen.items()
        },
        **shares,
        "labelling": _steps(np.rint(result.labelling)),
    }


def _of_few(runs: list[Run], none: Floats) -> dict[str, Any]:
    """The interval of the accuracy of "none" at each threshold, where a run has few such rows."""
    rows = [int((run.test.labels == NONE).sum()) for run in runs]
    if not 0 < min(rows) < FEW_NONE_ROWS:
        return {}
    low, high = (_steps(np.rint(end * UNITS)) for end in share_interval(none, min(rows)))
    return {"few": count_text(rows), "low": low, "high": high}


def _steps(values: Floats) -> list[int] | None:
    """First value and the steps from each to the next, which take a third of the space; None if there are none."""
    if np.isnan(values).any():
        return None
    whole = [int(value) for value in values]
    return [whole[0], *(after - before for before, after in pairwise(whole))]


def class_results(runs: list[Run]) -> list[list[Any]]:
    """Results of each class over all trials, the worst first.

    Args:
        runs: Runs of a method.

    Returns:
        Rows of name, test rows, training rows (the mean of the trials), accuracy at the intersection threshold of
        each run, mean confidence, AUPR, and the interval of the accuracy where it is of few rows, else an empty text. A
        class counts where it was trained, else its rows are "none", the last name possible.
    """
    sums: dict[str, Floats] = {}
    trained = Counter[str]()
    for run in runs:
        names = [*run.record.class_names, NONE_NAME]
        accepted = run.test.acceptance > run.record.thresholds["intersection"]
        decided = run.test.predicted.where(accepted, NONE) == run.test.labels
        values = [torch.ones(len(decided)), decided, run.test.confidence, run.scores.precision]
        labels = run.test.labels.numpy() % len(names)  # NONE is -1
        columns = [np.bincount(labels, value.double().numpy(), len(names)) for value in values]
        for name, row in zip(names, np.stack(columns, axis=1), strict=True):
            sums[name] = sums.get(name, 0) + row
        trained.update(run.train_counts)
    rows = [
        [
            name,
            int(count),
            round(trained[name] / len(runs)),
            *(round(float(total / count), 4) for total in totals),
            interval_of(float(totals[0] / count), count) if count < FEW_NONE_ROWS else "",
        ]
        for name, (count, *totals) in sums.items()
        if count
    ]
    return sorted(rows, key=lambda row: (row[3], -row[1]))


def confusions(runs: list[Run]) -> list[list[Any]]:
    """Wrong decisions that were accepted at the intersection threshold of each run, the most frequent first.

    Args:
        runs: Runs of a method.

    Returns:
        At most ten rows of label, whether it was trained (0 for "none"), the class that was said, how often that was
        so over all trials, and the ids of the items of which it was said with most confidence, at most three.
    """
    found: dict[tuple[str, int, str], list[tuple[float, str]]] = {}
    for run in runs:
        test, names = run.test, run.record.class_names
        wrong = (test.acceptance > run.record.thresholds["intersection"]) & ~test.correct
        for row in torch.nonzero(wrong).flatten().tolist():
            pair = (run.label_names[row].as_py(), int(test.labels[row] != NONE), names[int(test.predicted[row])])
            found.setdefault(pair, []).append((-float(test.acceptance[row]), run.ids[row].as_py()))
    most = sorted(found.items(), key=lambda entry: (-len(entry[1]), entry[0]))[:_CONFUSIONS]
    return [[*pair, len(items), list(dict.fromkeys(item for _, item in sorted(items)))[:3]] for pair, items in most]


def _examples(run: Run, means: dict[str, float]) -> list[list[Any]]:
    """Test items over the whole range of acceptance, most of them near the run's thresholds and the means of all."""
    acceptance = run.test.acceptance.double().numpy()
    order = np.argsort(acceptance, kind="stable")
    ascending = acceptance[order]
    places = set(np.searchsorted(ascending, np.arange(_EXAMPLE_STEPS) / _EXAMPLE_STEPS).tolist())
    for chosen in (*run.record.thresholds.values(), *means.values()):
        middle = int(np.searchsorted(ascending, chosen, side="right"))
        places |= set(range(middle - _EXAMPLES_NEAR, middle + _EXAMPLES_NEAR))
    rows = order[sorted(place for place in places if 0 <= place < len(order))]
    names = run.record.class_names
    return [
        [
            run.ids[row].as_py(),
            run.label_names[row].as_py(),
            int(run.test.labels[row] != NONE),
            names[int(run.test.predicted[row])],
            round(float(acceptance[row]), 6),
        ]
        for row in rows.tolist()
    ]

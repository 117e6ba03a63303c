"""Numbers behind the interactive parts of the page: the threshold slider, the classes and the example items.

Everything that the page shows is computed and rounded here; the page looks it up.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from estitchup_pl.batch import NONE
from estitchup_pl.functional import HEURISTICS
from estitchup_pl.report.averages import Floats, mean_over_trials
from estitchup_pl.report.curves import NEAR_ONE, curves_at
from estitchup_pl.report.runs import Run, StudyRuns
from estitchup_pl.report.text_table import threshold as threshold_text

SLIDER_GRID: Final[Floats] = np.unique([*(step / 1000 for step in range(1001)), *NEAR_ONE])
"""Thousandths, and finer steps near 1, where the confidences of an overconfident classifier crowd."""
UNITS: Final = 10000
"""A share is kept as a whole number of hundredths of a percent."""
NONE_NAME: Final = '"none"'
_EXAMPLES_NEAR: Final = 8
_EXAMPLE_STEPS: Final = 50


class Outcome(NamedTuple):
    """What a threshold brings on the test rows, each field ``(thresholds,)``, NaN where there is no such row.

    Attributes:
        known: Accuracy of known classes.
        none: Accuracy of "none".
        overall: Accuracy of all rows.
        coverage: Share of the rows that get a class.
        labelling: Number of rows that get none, and would go to labelling.
    """

    known: Floats
    none: Floats
    overall: Floats
    coverage: Floats
    labelling: Floats


def outcome(run: Run, thresholds: npt.ArrayLike) -> Outcome:
    """Decide the test rows of a run at each threshold."""
    grid = torch.as_tensor(thresholds).to(run.test.acceptance.dtype)
    curves = curves_at(run.test, grid)
    rows = len(run.test.labels)
    rejected = torch.searchsorted(run.test.acceptance.sort().values, grid, right=True).double()
    accuracies = (curves.accuracy_id, curves.accuracy_none, curves.accuracy)
    return Outcome(*(field.numpy() for field in (*accuracies, 1 - rejected / rows, rejected)))


def mean_outcome(runs: list[Run], thresholds: npt.ArrayLike) -> Outcome:
    """Average the outcomes of several runs, all at the same thresholds."""
    outcomes = [outcome(run, thresholds) for run in runs]
    return Outcome(*(mean_over_trials(field) for field in zip(*outcomes, strict=True)))


def explorer(study: StudyRuns) -> dict[str, Any]:
    """Content of the page's data: thresholds, and all methods with their views, classes and examples."""
    return {
        "grid": [f"{value:.6f}".rstrip("0").rstrip(".") for value in SLIDER_GRID],
        "methods": [_method(method, study) for method in study.methods],
    }


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
    }


def _view(runs: list[Run]) -> dict[str, Any]:
    """One choice of the slider: a run, or the mean of several."""
    chosen = mean_thresholds(runs)
    thresholds = np.sort([*SLIDER_GRID, *chosen.values()])
    result = mean_outcome(runs, thresholds)
    shares = {name: _steps(np.rint(values * UNITS)) for name, values in result._asdict().items() if name != "labelling"}
    return {
        "rows": round(float(np.mean([len(run.test.labels) for run in runs]))),
        "chosen": {
            name: {"index": int(np.searchsorted(thresholds, value)), "text": threshold_text(value)}
            for name, value in chosen.items()
        },
        **shares,
        "labelling": _steps(np.rint(result.labelling)),
    }


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
        each run, mean confidence and AUPR. A class counts where it was trained, else its rows are "none", the last
        name possible.
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
        [name, int(count), round(trained[name] / len(runs)), *(round(float(total / count), 4) for total in totals)]
        for name, (count, *totals) in sums.items()
        if count
    ]
    return sorted(rows, key=lambda row: (row[3], -row[1]))


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

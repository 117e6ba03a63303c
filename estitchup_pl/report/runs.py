"""What a report needs of each run, read from the study's folder once and reduced to one decision a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from estitchup_pl.errors import DataError
from estitchup_pl.functional import RowScores, acceptance, row_scores
from estitchup_pl.report.averages import Floats
from estitchup_pl.report.model import KeptModel, kept_model
from estitchup_pl.study.folder import RunPredictions, RunRecord, StudyFolder

HEURISTIC_NAMES: Final = {"intersection": "intersection", "tp_ratio": "TP ratio"}


@dataclass(frozen=True)
class Decisions:
    """Top-one decisions before any is rejected, each field ``(rows,)``.

    Attributes:
        confidence: Greatest class probability, float32.
        predicted: Its class, int64.
        labels: Class index or ``NONE``, int64.
        acceptance: What thresholds are compared with: one minus the score of "none", float32; with the paper's score
            the confidence.
    """

    confidence: Tensor
    predicted: Tensor
    labels: Tensor
    acceptance: Tensor

    @classmethod
    def of(cls, predictions: RunPredictions) -> Decisions:
        """Reduce the probabilities of a run."""
        probabilities, labels = predictions.probabilities, predictions.labels
        return cls(*probabilities.max(dim=-1), labels, acceptance(probabilities, predictions.none_scores))

    @property
    def correct(self) -> Tensor:
        """Whether the decision is right, bool ``(rows,)``; never for a "none" row."""
        return self.predicted == self.labels


@dataclass(frozen=True)
class Run:
    """One method in one trial.

    Attributes:
        record: What was chosen and found.
        test: Decisions on the test rows.
        validation: Decisions on the rows that the thresholds were found on (Sec. 4.3).
        scores: What each test row adds to AUROC and AUPR.
        ids: Ids of the test rows.
        label_names: Their labels as text, also of classes that are "none" here.
        curve: Accuracies in the course of training, if there are any.
        train_counts: Training rows of each class.
    """

    record: RunRecord
    test: Decisions
    validation: Decisions
    scores: RowScores
    ids: pa.Array
    label_names: pa.Array
    curve: pa.Table | None
    train_counts: dict[str, int]

    @property
    def choice(self) -> list[dict[str, Any]]:
        """What a method that chooses among others has chosen among, the best first; empty for all other methods."""
        return [entry for entry in self.record.selection if "chosen" in entry]

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What was chosen or fitted in this trial, by name."""
        return {**self.record.chosen, **self.record.parameters}


@dataclass(frozen=True)
class StudyRuns:
    """All runs of the methods that are finished in every trial.

    Attributes:
        header: The study's header.
        methods: Finished methods in the study's order, at least the control.
        trials: Numbers of the trials.
        left_out: Why each other method is missing.
        runs: Each run by method and trial.
        values: For each method and metric one value a trial, float64 ``(trials,)``, NaN where there is none.
        model: The classifier that is kept, if any is.
    """

    header: dict[str, Any]
    methods: tuple[str, ...]
    trials: tuple[int, ...]
    left_out: dict[str, str]
    runs: dict[tuple[str, int], Run]
    values: dict[str, dict[str, Floats]]
    model: KeptModel | None = None

    @property
    def control(self) -> str:
        """The method that all others are compared with."""
        return str(self.header["control"])

    def of(self, method: str) -> list[Run]:
        """Runs of a method, one a trial."""
        return [self.runs[method, trial] for trial in self.trials]


def read_study(folder: StudyFolder) -> StudyRuns:
    """Read a study.

    Raises:
        DataError: If the folder is no study's, or its control or its results are not complete.
    """
    header = folder.header
    trials = tuple(header["trials"])
    left_out = {method: why for method in header["methods"] if (why := _missing(folder, method, trials))}
    if header["control"] in left_out:
        raise DataError(
            f"{folder.path}: the control, {header['control']!r}, is {left_out[header['control']]}, and every other "
            "method is compared with it; run `estitchup study` with the same --out to go on"
        )
    methods = tuple(method for method in header["methods"] if method not in left_out)
    return StudyRuns(
        header,
        methods,
        trials,
        left_out,
        {(method, trial): _read_run(folder, method, trial) for method in methods for trial in trials},
        _read_values(folder, methods, trials),
        kept_model(folder, header["config"]),
    )


def _missing(folder: StudyFolder, method: str, trials: tuple[int, ...]) -> str:
    unfinished = [trial for trial in trials if not folder.has_run(method, trial)]
    if unfinished:
        return f"not finished in trial {', '.join(map(str, unfinished))}"
    diverged = [trial for trial in trials if folder.record(method, trial).diverged]
    return f"diverged in trial {', '.join(map(str, diverged))}" if diverged else ""


def _read_run(folder: StudyFolder, method: str, trial: int) -> Run:
    predictions = folder.predictions(method, trial)
    items = folder.trial(trial)
    labels = {part: items.filter(pc.equal(items["part"], part))["label"].combine_chunks() for part in ("train", "test")}
    return Run(
        folder.record(method, trial),
        Decisions.of(predictions),
        Decisions.of(folder.threshold_predictions(method, trial)),
        row_scores(predictions.probabilities, predictions.labels, predictions.none_scores),
        predictions.ids,
        labels["test"],
        folder.curve(method, trial),
        {count["values"]: count["counts"] for count in labels["train"].value_counts().to_pylist()},
    )


def _read_values(
    folder: StudyFolder, methods: tuple[str, ...], trials: tuple[int, ...]
) -> dict[str, dict[str, Floats]]:
    table = folder.results()
    values: dict[str, dict[str, Floats]] = {method: {} for method in methods}
    for result in table.filter(pc.equal(table["split"], "test")).to_pylist():
        if result["method"] in values and result["trial"] in trials:
            row = values[result["method"]].setdefault(result["metric"], np.full(len(trials), np.nan))
            row[trials.index(result["trial"])] = result["value"]
    return values

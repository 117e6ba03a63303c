"""The three stages of the protocol: selection, thresholds, final fits (Secs. 3, 3.4 and 4.3).

Each does what is missing of it in the folder, and writes what a stack of fits has given as soon as that has ended.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from estitchup_pl.batch import NONE
from estitchup_pl.functional import HEURISTICS, fit_temperature, select_threshold
from estitchup_pl.study.curve import AccuracyCurve, CurveRows
from estitchup_pl.study.evaluation import selection_score
from estitchup_pl.study.fitting import Job, Logits
from estitchup_pl.study.folder import RunRecord, stored_probabilities
from estitchup_pl.study.methods import candidates
from estitchup_pl.study.state import StudyState, values_of


def select(study: StudyState) -> None:
    """Fit and score every candidate of every grid on a part of the training rows."""
    config, folder, jobs = study.config, study.folder, []

    def take(job: Job, logits: Logits | None) -> None:
        entries = folder.read_note(job.method, job.trial, "selection") or []
        score = math.nan if logits is None else _score(study, job, logits)
        entry = {**job.values, "division": job.number, "score": None if math.isnan(score) else score}
        folder.write_note(job.method, job.trial, "selection", [*entries, entry])

    for method, trial in study.unfinished():
        possible = candidates(config.methods[method])
        entries = folder.read_note(method, trial, "selection") or []
        there = [(values_of(entry), entry["division"]) for entry in entries]
        for division in range(config.selection.divisions if len(possible) > 1 else 0):
            jobs += [
                Job("selection", method, trial, values, division)
                for values in possible
                if (values, division) not in there
            ]
    study.fit(jobs, config.selection.epochs or config.epochs, take)


def find_thresholds(study: StudyState) -> None:
    """Fit without some classes, and find temperature and thresholds on the rows that validate (Sec. 4.3)."""
    folder = study.folder

    def finish(method: str, trial: int, logits: Logits | None) -> None:
        if logits is not None and folder.read_note(method, trial, "threshold") is None:
            folder.write_logits(method, trial, "threshold_logits", logits)
            _write_thresholds(study, method, trial)

    def take(job: Job, logits: Logits | None) -> None:
        if logits is None:
            folder.write_note(job.method, job.trial, "threshold", {"diverged": True})
        else:
            finish(job.method, job.trial, study.keep(job, logits))

    pairs = [pair for pair in study.unfinished() if folder.read_note(*pair, "threshold") is None]
    jobs = [job for method, trial in pairs for job in study.missing_members("threshold", method, trial)]
    study.fit(jobs, study.config.epochs, take)
    for method, trial in pairs:
        if not study.config.methods[method].is_fitted:
            _write_thresholds(study, method, trial)
        else:  # interrupted between its last member and the mean of all
            finish(method, trial, study.joined("threshold", method, trial))


def fit_finally(study: StudyState) -> None:
    """Fit on all training rows and keep the predictions on all others."""
    folder, config = study.folder, study.config
    rows: dict[int, CurveRows] = {}

    def take(job: Job, logits: Logits | None) -> None:
        if logits is None:
            _write_record(study, job.method, job.trial, diverged=True)
        elif (joined := study.keep(job, logits)) is not None and not folder.has_run(job.method, job.trial):
            curve = job.callbacks[0].table() if job.callbacks else None  # type: ignore[attr-defined]
            _write_record(study, job.method, job.trial, logits=joined, curve=curve)

    jobs: list[Job] = []
    for method, trial in study.unfinished():
        if _is_lost(study, method, trial):
            _write_record(study, method, trial, diverged=True)
            continue
        for job in study.missing_members("final", method, trial):
            if config.methods[method].ensemble == 1 and config.source(method).estimator is None:
                rows.setdefault(trial, CurveRows(study.trials, trial))
                found = folder.read_note(method, trial, "threshold")
                threshold = _before_scaling(found["thresholds"]["intersection"], found["temperature"])
                job = replace(job, callbacks=(AccuracyCurve(rows[trial], threshold, config.curve_every),))
            jobs.append(job)
    study.fit(jobs, config.epochs, take)
    for method, trial in study.unfinished():
        if config.methods[method].is_fitted:  # interrupted between its last member and the mean of all
            _write_record(study, method, trial, logits=study.joined("final", method, trial))
        else:  # what is made of another method's logits
            diverged = folder.record(str(config.methods[method].base), trial).diverged
            _write_record(study, method, trial, diverged=diverged)


def _score(study: StudyState, job: Job, logits: Logits) -> float:
    trials = study.trials
    names = trials.class_names("selection", job.trial, job.division)
    labels = trials.label_index(trials.parts("selection", job.trial, job.division).val, names)
    return selection_score(study.config.selection.metric, torch.from_numpy(logits), torch.from_numpy(labels))


def _write_thresholds(study: StudyState, method: str, trial: int) -> None:
    own, folder, trials = study.config.methods[method], study.folder, study.trials
    logits = folder.read_logits(method if own.is_fitted else str(own.base), trial, "threshold_logits")
    if logits is None:  # the fit of the base has diverged
        folder.write_note(method, trial, "threshold", {"diverged": True})
        return
    names = trials.class_names("threshold", trial)
    labels = torch.from_numpy(trials.label_index(trials.parts("threshold", trial).val, names))
    known = labels != NONE
    temperature = fit_temperature(torch.from_numpy(logits)[known], labels[known]) if own.temperature else 1.0
    confidence, predicted = stored_probabilities(logits, temperature).max(dim=-1)
    thresholds = {name: float(select_threshold(confidence, predicted, labels, name)) for name in HEURISTICS}
    found = {"diverged": False, "temperature": temperature, "thresholds": thresholds}
    folder.write_note(method, trial, "threshold", found)


def _write_record(study: StudyState, method: str, trial: int, diverged: bool = False, **kept: Any) -> None:
    own, trials = study.config.methods[method], study.trials
    found = study.folder.read_note(method, trial, "threshold")
    record = RunRecord(
        method,
        trial,
        class_names=trials.class_names("final", trial),
        threshold_class_names=trials.class_names("threshold", trial),
        thresholds=found.get("thresholds", {}),
        chosen=study.chosen(method, trial),
        selection=study.scores(method, trial),
        temperature=found.get("temperature", 1.0),
        logits_of=None if own.is_fitted else own.base,
        train_rows=len(trials.parts("final", trial).train),
        epochs=study.config.epochs if study.config.source(method).estimator is None else 0,
        diverged=diverged,
    )
    study.folder.write_run(record, **kept)


def _is_lost(study: StudyState, method: str, trial: int) -> bool:
    """Whether the fit for the thresholds has diverged."""
    return bool((study.folder.read_note(method, trial, "threshold") or {}).get("diverged"))


def _before_scaling(threshold: float, temperature: float) -> float:
    """Threshold for probabilities without a temperature that decides as ``threshold`` does with it."""
    return float(torch.sigmoid(temperature * torch.logit(torch.tensor(threshold, dtype=torch.float64))))

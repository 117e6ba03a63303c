"""From a study to one classifier: a method fitted to all labelled rows, with its decision, as a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from estitchup_pl.errors import ConfigError, DivergedError, did_you_mean
from estitchup_pl.functional import HEURISTICS, Heuristic
from estitchup_pl.locking import locked_folder
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.saving import described, save_classifier
from estitchup_pl.stacking import Run, fit_runs
from estitchup_pl.stopping import keeping
from estitchup_pl.study.checkpoints import check_classifier, classifier_of, fit_path, fits_of, solved, trial_data
from estitchup_pl.study.config import StudyConfig
from estitchup_pl.study.derived import DerivedMethod, Member
from estitchup_pl.study.driver import run_stage
from estitchup_pl.study.final import FinalFits
from estitchup_pl.study.folder import StudyFolder
from estitchup_pl.study.methods import FittedMethod, NetworkMethod, RowsMethod
from estitchup_pl.study.repairing import remove_damaged
from estitchup_pl.study.resuming import check_unchanged
from estitchup_pl.study.selection import Selection
from estitchup_pl.study.stage import Job, Reporter, silent
from estitchup_pl.study.study import Study
from estitchup_pl.study.thresholds import Thresholds
from estitchup_pl.study.workers import Crew

ALL_ROWS = {"class_path": "estitchup_pl.data.splits.AllRows", "init_args": {}}


class LastFits(FinalFits):
    """The fits on all labelled rows; seeded as the final fits of a study are."""

    text = "fitting all labelled rows"


@dataclass(frozen=True)
class Refit:
    """What a refit has made.

    Attributes:
        model: The classifier, in evaluation mode.
        method: The method that it is of.
        made_of: The method that this one has chosen, or itself.
        values: Values chosen for the grid of the method that was fitted, if it was one.
        rows: Labelled rows, all of which train.
    """

    model: EmbeddingClassifier
    method: str
    made_of: str
    values: Mapping[str, Any]
    rows: int


def refit(
    config: StudyConfig,
    folder: StudyFolder,
    method: str,
    path: str | Path,
    heuristic: Heuristic = "intersection",
    report: Reporter = silent,
) -> Refit:
    """Fit a method of a study to all labelled rows, and write the checkpoint of one classifier.

    Everything that the method chooses or learns, it chooses and learns anew on all rows, as it has done in each trial
    on its training rows: the values of a grid on selection splits; calibration, moments of scores, the choice of
    :class:`~estitchup_pl.study.Chosen` and the threshold on threshold splits. So what the trials have measured is this
    procedure, and no labelled row is left over to measure this one classifier with.

    Args:
        config: The study.
        folder: Where the refit keeps what it has done, a folder of its own; interrupted, the same call goes on.
        method: Name of the method: a network, a linear head, or what is made of them.
        path: File of the checkpoint.
        heuristic: Which of the two thresholds of Sec. 4.3 it decides by.
        report: Told of the progress.

    Raises:
        ConfigError: If there is no such method, it cannot become one classifier, or another refit lies in the folder.
        DivergedError: If a fit has diverged.
        SplitError: If there are too few rows or classes to find a threshold.
        WriteError: If the folder cannot be written to, or another command is writing there.
    """
    if heuristic not in HEURISTICS:
        raise ConfigError(f"heuristic: expected one of {', '.join(HEURISTICS)}, got {heuristic!r}")
    own = of_all_rows(config, folder, method)
    kept = f"every fit that had ended is kept in {folder.path}; the same command goes on"
    with locked_folder(folder.path), keeping(lambda: kept):
        study = _learn(own, folder, method, report)
        _fit(study, fits_of(study, method, 0), report)
        model = classifier_of(study, method, 0, heuristic)
        save_classifier(model, path)
    chosen = study.learnt(method, 0).get("chosen", method)
    return Refit(model, method, chosen, study.chosen(chosen, 0), len(study.trials.labels.labelled))


def of_all_rows(config: StudyConfig, folder: StudyFolder, method: str) -> StudyConfig:
    """The study of one method, and what it is made of, in one trial whose training rows are all labelled ones.

    Raises:
        ConfigError: If there is no such method, or it cannot become one classifier.
    """
    study = Study(config, folder)
    if method not in study.methods:
        raise ConfigError(f"there is no method {method!r}{did_you_mean(method, study.methods)}")
    check_classifier(study, method)
    needed = _needed(study, method)
    options = {**config.plain(), "split": ALL_ROWS, "trials": 1, "control": method, "none_groups": None}
    options["methods"] = {name: given for name, given in config.plain()["methods"].items() if name in needed}
    return StudyConfig.from_plain(options)


def _needed(study: Study, name: str) -> set[str]:
    method = study.methods[name]
    members = method.members if isinstance(method, DerivedMethod) else ()
    return {name}.union(*(_needed(study, member.method) for member in members))


def _learn(config: StudyConfig, folder: StudyFolder, method: str, report: Reporter) -> Study:
    """Choose and learn everything on the labelled rows."""
    check_unchanged(folder, config)
    study = Study(config, folder)
    study.check()
    remove_damaged(folder)
    folder.write_header(study.header())
    with Crew(config) as crew:
        for stage in (Selection(), Thresholds()):
            run_stage(stage, study, report, crew)
    if (study.found(method, 0) or {}).get("diverged"):
        raise DivergedError(f"a fit of {method} has diverged, so it has no threshold: lower its learning rate")
    return study


def _fit(study: Study, members: Sequence[Member], report: Reporter) -> None:
    """Fit what is not there yet."""
    missing = [member for member in members if not fit_path(study, member, 0).exists()]
    if not missing:
        return
    tick = report(LastFits(), len(missing), study.config.epochs)
    runs: dict[str, tuple[Run, Member, NetworkMethod]] = {}
    for member in missing:
        method, job = _method(study, member), Job(LastFits(), member.method, 0, number=member.number)
        if isinstance(method, RowsMethod):
            save_classifier(solved(study, method, 0, study.seed(job)), fit_path(study, member, 0))
            tick(study.config.epochs)
        elif isinstance(method, NetworkMethod):
            callbacks, data = [make() for make in method.callbacks], trial_data(study, 0, method.batch_size)
            watch = partial(_pass, tick)
            runs[job.name] = Run(job.name, method.make_model(), data, callbacks, study.seed(job), watch), member, method
    options: dict[str, Any] = {"accelerator": study.config.accelerator, "precision": study.config.precision}
    every = [run for run, _, _ in runs.values()]
    for one in fit_runs(every, study.config.epochs, stack_size=study.config.stack_size, **options):
        run, member, method = runs[one.run.name]
        if one.diverged:
            raise DivergedError(f"{run.name}: the fit on all labelled rows has diverged: lower its learning rate")
        save_classifier(described(run.model, method.description(study.config.model)), fit_path(study, member, 0))


def _pass(tick: Callable[[int], None], epoch: int, model: EmbeddingClassifier) -> None:
    tick(1)


def _method(study: Study, member: Member) -> FittedMethod:
    return study.method(member.method, study.chosen(member.method, 0))

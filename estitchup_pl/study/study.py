"""A study at work: its methods and metrics, its rows, and what is in its folder already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from torchmetrics import Metric

from estitchup_pl.data.none_groups import none_groups
from estitchup_pl.errors import ConfigError, did_you_mean
from estitchup_pl.functional import HEURISTICS
from estitchup_pl.metrics import NoneMetric
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.scaling import Scaling
from estitchup_pl.seeding import derive_seed
from estitchup_pl.study.building import Values, build, replaced, told
from estitchup_pl.study.config import PAPER_METHODS, StudyConfig
from estitchup_pl.study.derived import DerivedMethod, Learnt, Member
from estitchup_pl.study.evaluation import Criterion, directions, study_metrics
from estitchup_pl.study.folder import StudyFolder
from estitchup_pl.study.methods import FittedMethod, Method, candidates
from estitchup_pl.study.scaled_rows import ScaledRows
from estitchup_pl.study.stage import Fit, FitStage, Job
from estitchup_pl.study.trials import Trials
from estitchup_pl.thresholds import PaperHeuristic, ThresholdRule

LEARNT: Final = "learnt"
"""Name of the file of the arrays that a derived method has learnt."""


class Study:
    """What the stages of a study share; made of its configuration and its folder alone, in any process.

    Args:
        config: The study.
        folder: Where it is, or is to be.

    Attributes:
        trials: Rows of every trial and stage.
        methods: The methods by name, each after those that it is derived from.
        metrics: The metrics by name.
        rules: The rules for thresholds by name, the paper's heuristics first.

    Raises:
        ConfigError: If a method or metric cannot be made.
        StoreError: If the store cannot be opened.
    """

    def __init__(self, config: StudyConfig, folder: StudyFolder) -> None:
        self.config = config
        self.folder = folder
        self.trials = Trials(config)
        methods = {name: _built(name, description) for name, description in config.methods.items()}
        self.methods = {name: methods[name] for name in _bases_first(methods)}
        self.metrics = _metrics(config)
        self.rules = _rules(config)
        self._scaled: dict[tuple[int, str, int, str], ScaledRows] = {}
        if config.none_groups:
            self._group_none(config.none_groups)

    def _group_none(self, column: str) -> None:
        groups = none_groups(self.trials.store, column, self.trials.labels.labelled)
        for metric in self.metrics.values():
            if isinstance(metric, NoneMetric):
                metric.groups = groups

    @cached_property
    def criterion(self) -> Criterion:
        """What candidates are compared by."""
        return Criterion.of(self.config.selection.metric, {**study_metrics(), **self.metrics})

    def check(self) -> None:
        """Make everything once, so that a mistake is told before hours are spent.

        Raises:
            ConfigError: For a class, an argument or a name that does not exist, or a value that a class refuses.
        """
        for name, method in self.methods.items():
            for values in self.candidates(name):
                where = f"methods.{name}" + "".join(f", {argument} {value}" for argument, value in values.items())
                with told(where):
                    (self.method(name, values) if values else method).check()
        directions(self.metrics)
        if self.config.keep != "none" or any(len(self.candidates(name)) > 1 for name in self.methods):
            self.criterion  # noqa: B018  # found, or the name is refused

    def header(self) -> dict[str, Any]:
        """What ``study.json`` says of the study."""
        return {
            "name": self.config.name,
            "methods": list(self.config.methods),
            "trials": list(range(self.config.trials)),
            "control": self.config.control,
            "epochs": self.config.epochs,
            "paper": set(PAPER_METHODS) <= set(self.config.methods),
            "metrics": directions(self.metrics),
            "config": self.config.plain(),
        }

    def unfinished(self) -> list[tuple[str, int]]:
        """Method and trial of each run that is not there yet, in an order in which they can be computed."""
        return [
            (method, trial)
            for trial in range(self.config.trials)
            for method in self.methods
            if not self.folder.has_run(method, trial)
        ]

    def candidates(self, name: str) -> list[Values]:
        """Every combination of a method's grid; one empty combination where there is no choice."""
        method = self.methods[name]
        return candidates(method.grid) if isinstance(method, FittedMethod) else [{}]

    def method(self, name: str, values: Mapping[str, object]) -> FittedMethod:
        """Make a method with values in the place of its arguments."""
        where = f"methods.{name}.grid"
        made: FittedMethod = build(Method, replaced(self.config.methods[name], values, where), where)
        return made

    def members(self, name: str) -> list[Member]:
        """The fits that a method needs: its own, or those it is derived from."""
        method = self.methods[name]
        if not isinstance(method, DerivedMethod):
            return [Member(name)]
        nested = (
            self.members(member.method) if isinstance(self.methods[member.method], DerivedMethod) else [member]
            for member in method.members
        )
        return [member for members in nested for member in members]

    def seed(self, job: Job) -> int:
        """Seed of a fit: the same for all methods, so that they begin with the same weights."""
        division = [job.division] * (job.division > 0)
        return derive_seed(self.config.seed, "study", job.stage.name, job.trial, job.number, *division)

    def scores(self, name: str, trial: int) -> list[dict[str, Any]]:
        """Every candidate whose fits are all there, with its mean ``score``; those that diverged are left out."""
        fitted = {member.method for member in self.members(name)}
        name = fitted.pop()
        if fitted:
            return []
        possible, scored = self.candidates(name), []
        for number, values in enumerate(possible if len(possible) > 1 else []):
            notes = [
                self.folder.read_note(name, trial, candidate_note(number, division))
                for division in range(self.config.selection.divisions)
            ]
            own = [note["score"] for note in notes if note]
            if own and None not in own:
                scored.append({**values, "score": float(np.mean(own))})
        return scored

    def chosen(self, name: str, trial: int) -> Values:
        """Values of the best candidate, the first of equals; of a derived method, those of its base if it has one."""
        fitted = {member.method for member in self.members(name)}
        if len(fitted) > 1:
            return {}
        (name,) = fitted
        possible = self.candidates(name)
        if len(possible) == 1:
            return possible[0]
        scored = self.scores(name, trial)
        if not scored:
            rank_zero_warn(f"{name}, trial {trial}: every candidate diverged, so the first is taken")
            return possible[0]
        return {argument: value for argument, value in self.criterion.best(scored).items() if argument != "score"}

    def found(self, method: str, trial: int) -> dict[str, Any] | None:
        """What the stage of the thresholds has found: ``diverged``, ``parameters``, ``thresholds``."""
        note: dict[str, Any] | None = self.folder.read_note(method, trial, "threshold")
        return note

    def missing_fits(self, stage: FitStage, runs: Iterable[tuple[str, int]]) -> list[Job]:
        """Fits that these methods and trials need, and that are not there yet; each once, whoever needs it."""
        needed = dict.fromkeys((member, trial) for method, trial in runs for member in self.members(method))
        return [
            Job(stage, member.method, trial, self.chosen(member.method, trial), member.number, division)
            for member, trial in needed
            for division in range(stage.divisions(self.config))
            if self.folder.read_logits(member.method, trial, stage.file(member.number, division)) is None
        ]

    def keep_logits(self, stage: FitStage, fit: Fit) -> None:
        """Write what a fit has given; its logits last."""
        job = fit.job
        if fit.curve is not None:
            self.folder.write_curve(job.method, job.trial, fit.curve)
        self.folder.write_logits(job.method, job.trial, stage.file(job.number, job.division), fit.logits)

    def has_diverged(self, stage: FitStage, name: str, trial: int) -> bool:
        """Whether a fit that a method needs has diverged on any of the divisions of a stage."""
        kept = (
            self.folder.read_logits(member.method, trial, stage.file(member.number, division))
            for member in self.members(name)
            for division in range(stage.divisions(self.config))
        )
        return any(logits is not None and not logits.size for logits in kept)

    def learnt(self, name: str, trial: int) -> Learnt:
        """What a derived method has learnt."""
        parameters = (self.found(name, trial) or {}).get("parameters", {})
        return {**parameters, **self.folder.read_arrays(name, trial, LEARNT)}

    def scaled_rows(
        self, stage: FitStage, name: str, trial: int, division: int, scaling: Scaling | None = None
    ) -> ScaledRows:
        """Embeddings as a method with fits of its own scales them, or in another way; one object for all alike."""
        if any(key[0] != trial for key in self._scaled):
            self._scaled.clear()  # test rows of one trial alone may be hundreds of megabytes
        if scaling is None:
            model = self.method(name, self.chosen(name, trial)).scaled_by(self.config.build_model())
        else:
            model = EmbeddingClassifier(scaling=scaling)
        key = (trial, stage.name, division, repr(model.scaling))
        if key not in self._scaled:
            self._scaled[key] = ScaledRows(self.trials, self.trials.division(stage, trial, division), model)
        return self._scaled[key]


def candidate_note(number: int, division: int) -> str:
    """Name of the note that a candidate's score on one division is kept in."""
    return f"selection/{number}-{division}"


def _metrics(config: StudyConfig) -> dict[str, Metric]:
    metrics = study_metrics()
    if config.metrics is not None:
        metrics = {name: build(Metric, described, f"metrics.{name}") for name, described in config.metrics.items()}
    more = {name: build(Metric, given, f"more_metrics.{name}") for name, given in config.more_metrics.items()}
    return {**metrics, **more}


def _rules(config: StudyConfig) -> dict[str, ThresholdRule]:
    paper: dict[str, ThresholdRule] = {kind: PaperHeuristic(kind) for kind in HEURISTICS}
    own = {name: build(ThresholdRule, given, f"thresholds.{name}") for name, given in config.thresholds.items()}
    return {**paper, **own}


def _built(name: str, description: Mapping[str, Any]) -> Method:
    where = f"methods.{name}"
    method: Method = build(Method, description, where)
    for argument, values in method.grid.items() if isinstance(method, FittedMethod) else ():
        if not isinstance(values, list) or not values:
            wanted = "at least one value" if isinstance(values, list) else "a list of values"
            raise ConfigError(f"{where}.grid.{argument}: expected {wanted}, got {values}")
    return method


def _bases_first(methods: Mapping[str, Method], asked: Sequence[str] = ()) -> dict[str, None]:
    """Order methods so that each comes after those that it is derived from.

    Raises:
        ConfigError: If one is derived from a method that does not exist, or from itself.
    """
    ordered: dict[str, None] = {}
    for name in [asked[-1]] if asked else methods:
        method = methods[name]
        for member in method.members if isinstance(method, DerivedMethod) else ():
            where = f"methods.{name}: is derived from {member.method!r}"
            if member.method not in methods:
                raise ConfigError(f"{where}, and there is no such method{did_you_mean(member.method, methods)}")
            if member.method in (*asked, name):
                raise ConfigError(f"{where}, which is derived from it")
            if member.number and not isinstance(methods[member.method], FittedMethod):
                raise ConfigError(f"{where}, which has no fits of its own that could differ in their seeds")
            ordered |= _bases_first(methods, (*(asked or (name,)), member.method))
        ordered[name] = None
    return ordered

"""A study at work: its configuration, its rows, and what is in its folder already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn

from estitchup_pl.study.config import PAPER_METHODS, StudyConfig
from estitchup_pl.study.fitting import Fitter, Job, Logits
from estitchup_pl.study.folder import StudyFolder
from estitchup_pl.study.methods import Values, candidates
from estitchup_pl.study.resuming import plain
from estitchup_pl.study.trials import Stage, Trials

Reporter = Callable[[Stage, int, int], Callable[[int], None]]
"""Called when a stage begins with its fits and the epochs of each; returns what to call as epochs pass."""


def silent(stage: Stage, fits: int, epochs: int) -> Callable[[int], None]:
    """Report nothing."""
    return lambda passed: None


@dataclass
class StudyState:
    """What the stages of a study share.

    Args:
        config: The study.
        folder: Where it is, or is to be.
        report: Told of the progress.

    Attributes:
        trials: Rows of every trial and stage.
    """

    config: StudyConfig
    folder: StudyFolder
    report: Reporter = silent
    trials: Trials = field(init=False)

    def __post_init__(self) -> None:
        self.trials = Trials(self.config)

    def prepare(self) -> None:
        """Write what the study is and the rows of its trials.

        Raises:
            SplitError: If the rows cannot be divided as asked.
        """
        config = self.config
        for trial in range(config.trials):
            self.folder.write_table(f"trials/{trial}.parquet", self.trials.table(trial))
        self.folder.write_header(
            {
                "name": config.name,
                "methods": list(config.methods),
                "trials": list(range(config.trials)),
                "control": config.control,
                "epochs": config.epochs,
                "paper": set(PAPER_METHODS) <= set(config.methods),
                "config": plain(config),
            }
        )

    def unfinished(self) -> list[tuple[str, int]]:
        """Method and trial of each run that is not there yet."""
        return [
            (method, trial)
            for method in self.config.methods
            for trial in range(self.config.trials)
            if not self.folder.has_run(method, trial)
        ]

    def fit(self, jobs: Sequence[Job], epochs: int, done: Callable[[Job, Logits | None], None]) -> None:
        """Fit jobs of one stage."""
        if jobs:
            tick = self.report(jobs[0].stage, len(jobs), epochs)
            Fitter(self.config, self.trials, done, tick).fit(jobs, epochs)

    def scores(self, method: str, trial: int) -> list[dict[str, float]]:
        """Every candidate whose fits are all there, with its mean ``score``; those that diverged are left out."""
        entries = self.folder.read_note(self.config.methods[method].base or method, trial, "selection") or []
        scored = []
        for values in candidates(self.config.source(method)):
            own = [entry["score"] for entry in entries if values_of(entry) == values]
            if own and None not in own:
                scored.append({**values, "score": float(np.mean(own))})
        return scored

    def chosen(self, method: str, trial: int) -> Values:
        """Values of the best candidate, the first of equals."""
        possible = candidates(self.config.source(method))
        if len(possible) == 1:
            return possible[0]
        scored = self.scores(method, trial)
        if not scored:
            rank_zero_warn(f"{method}, trial {trial}: every candidate diverged, so the first is taken")
            return possible[0]
        return values_of(max(scored, key=lambda entry: entry["score"]))

    def missing_members(self, stage: Stage, method: str, trial: int) -> list[Job]:
        """Fits of a method that are not there yet; more than one for an ensemble."""
        own = self.config.methods[method]
        if not own.is_fitted:
            return []
        values = self.chosen(method, trial)
        return [
            Job(stage, method, trial, values, member)
            for member in range(own.ensemble)
            if self.folder.read_logits(method, trial, member_name(stage, member)) is None
        ]

    def keep(self, job: Job, logits: Logits) -> Logits | None:
        """Take in the logits of a fit.

        Returns:
            The logits of its method: these, or the mean of an ensemble, ``None`` while members are missing.
        """
        if self.config.methods[job.method].ensemble == 1:
            return logits
        self.folder.write_logits(job.method, job.trial, member_name(job.stage, job.number), logits)
        return self.joined(job.stage, job.method, job.trial)

    def joined(self, stage: Stage, method: str, trial: int) -> Logits | None:
        """Mean of the members of an ensemble, ``None`` while some are missing."""
        names = [member_name(stage, member) for member in range(self.config.methods[method].ensemble)]
        members = [self.folder.read_logits(method, trial, name) for name in names]
        there = [member for member in members if member is not None]
        return mean_logits(there) if len(there) == len(members) else None


def values_of(entry: dict[str, float]) -> Values:
    """Values of a candidate, without its score and division.

    Example:
        >>> values_of({"alpha": 0.4, "division": 0, "score": 0.9})
        {'alpha': 0.4}
    """
    return {name: value for name, value in entry.items() if name not in ("score", "division")}


def member_name(stage: Stage, member: int) -> str:
    """Name of the logits of one member of an ensemble."""
    return f"members/{stage}-{member}"


def mean_logits(members: Sequence[Logits]) -> Logits:
    """Logits of the mean of the members' probabilities, computed without rounding to 0 or 1.

    Example:
        >>> mean_logits([np.float16([[0.0, 20.0]]), np.float16([[0.0, 20.0]])])
        array([[ 0., 20.]], dtype=float16)
    """
    stacked = np.stack(members).astype(np.float64)
    present, absent = (np.logaddexp.reduce(-np.logaddexp(0, sign * stacked), axis=0) for sign in (-1, 1))
    return np.asarray(present - absent, dtype=np.float16)

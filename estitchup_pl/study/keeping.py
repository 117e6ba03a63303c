"""Which classifiers of a study are kept, and their files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import torch

from estitchup_pl.errors import ConfigError
from estitchup_pl.model.saving import save_classifier
from estitchup_pl.study.checkpoints import check_classifier, classifier_of, fit_path, fits_of
from estitchup_pl.study.choosing import Candidate, Chosen, Output, best_of_equals
from estitchup_pl.study.derived import Member
from estitchup_pl.study.final import FinalFits
from estitchup_pl.study.folder import stored_probabilities
from estitchup_pl.study.study import Study
from estitchup_pl.study.thresholds import Thresholds

TRIAL = 0
"""The trial that the best classifier is of."""


class KeptModels:
    """The classifiers that a study keeps; made when all thresholds are found.

    The best one is of trial 0 and chosen by the validation rows of its threshold splits alone, as those of other trials
    are test rows of this one. What a :class:`~estitchup_pl.study.Chosen` among the methods has taken there is the best,
    for that is what it is for. Without one it is the method of the best mean target (``selection.metric``), or, where
    that is worse calibrated than others as good as it, the next best, see
    :func:`~estitchup_pl.study.choosing.best_of_equals`.

    Args:
        study: The study.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._candidate = cache(self._measure)
        self._refused: dict[tuple[str, int], str] = {}

    def fits(self) -> frozenset[tuple[Member, int]]:
        """Fits whose classifiers are needed, each with its trial."""
        needed = ((fits_of(self._study, name, trial), trial) for name, trial in self._wanted())
        return frozenset((member, trial) for members, trial in needed for member in members)

    def write(self) -> bool:
        """Write what is wanted; return whether that was all, or other :meth:`fits` are needed first.

        What proves to be no classifier gives way to the next best.
        """
        study, best = self._study, self._best()
        if not all(fit_path(study, member, trial).exists() for member, trial in self.fits()):
            return False
        for name, trial in self._wanted():
            try:
                model = classifier_of(study, name, trial)
            except ConfigError as error:
                self._refused[name, trial] = str(error)
                return False
            if study.config.keep == "all":
                save_classifier(model, study.folder.model_path(name, trial))
            if (name, trial) == (best, TRIAL):
                save_classifier(model, study.folder.best_path)
                study.folder.write_best(self._about(name))
        return True

    def _wanted(self) -> Iterator[tuple[str, int]]:
        """Methods and trials whose classifiers are to be there."""
        if self._study.config.keep == "none":
            return
        trials, best = range(self._study.config.trials), self._best()
        runs = [(name, trial) for name in self._study.methods for trial in trials if self._is_possible(name, trial)]
        yield from (run for run in runs if self._study.config.keep == "all" or run == (best, TRIAL))

    def _is_possible(self, name: str, trial: int) -> bool:
        return self._hindrance(name, trial) is None

    def _hindrance(self, name: str, trial: int) -> str | None:
        """Why a method gives no classifier in a trial; ``None`` where it does, as far as can be told."""
        study = self._study
        if (name, trial) in self._refused:
            return self._refused[name, trial]
        found = study.found(name, trial) or {"diverged": True}
        if found["diverged"] or study.has_diverged(FinalFits(), name, trial):
            return "it has diverged"
        try:
            for fit in fits_of(study, name, trial):
                check_classifier(study, fit.method)
        except ConfigError as error:
            return str(error)
        return None

    def _best(self) -> str | None:
        """Name of the best method; ``None`` where no method can become a classifier."""
        possible = [name for name in self._study.methods if self._is_possible(name, TRIAL)]
        for name in possible:
            if isinstance(self._study.methods[name], Chosen):
                return name
        higher = self._study.criterion.higher_is_better
        measured = [one for one in map(self._candidate, possible) if math.isfinite(one.score)]
        ranked = sorted(measured, key=lambda one: one.score, reverse=higher)
        return best_of_equals(ranked, higher).name if ranked else None

    def _measure(self, name: str) -> Candidate:
        return Candidate.of(name, list(self._outputs(name)), self._study.criterion)

    def _outputs(self, name: str) -> Iterator[Output]:
        """What a method says of the validation rows of each threshold split."""
        study, stage = self._study, Thresholds()
        for split in range(study.config.repeats):
            logits = study.folder.read_logits(name, TRIAL, stage.file(0, split))
            scores = study.folder.read_scores(name, TRIAL, stage.scores_file(split))
            if logits is not None:
                own = None if scores is None else torch.from_numpy(scores)
                yield stored_probabilities(logits), stage.labels(study, TRIAL, split), own

    def _about(self, name: str) -> dict[str, object]:
        """What the best classifier is, in plain values."""
        study = self._study
        made_of = study.learnt(name, TRIAL).get("chosen", name)
        return {
            "method": name,
            "made_of": made_of,
            "values": study.chosen(made_of, TRIAL),
            "trial": TRIAL,
            "target": study.criterion.name,
            "score": self._candidate(name).score,
            "refused": {one: why for one in study.methods if (why := self._hindrance(one, TRIAL)) is not None},
        }

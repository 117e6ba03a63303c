"""The first stage: every candidate of every grid is fitted and scored on a part of the training rows (Sec. 3)."""

from __future__ import annotations

import math
from collections.abc import Iterable

from typing_extensions import override

from estitchup_pl.data.splits import SplitProtocol
from estitchup_pl.study.config import StudyConfig
from estitchup_pl.study.folder import stored_probabilities
from estitchup_pl.study.splits import BootstrapSplit, SelectionSplit
from estitchup_pl.study.stage import Fit, Job, Stage
from estitchup_pl.study.study import Study, candidate_note


class Selection(Stage):
    """Compares the candidates of each grid."""

    name = "selection"
    text = "choosing hyperparameters"

    @override
    def split(self, config: StudyConfig, outer: SplitProtocol, trial: int, division: int) -> SplitProtocol:
        if config.selection.strategy == "split":
            return SelectionSplit(outer, trial, config.selection.fraction)
        return BootstrapSplit(outer, trial, division)

    @override
    def divisions(self, config: StudyConfig) -> int:
        return config.selection.divisions

    @override
    def epochs(self, config: StudyConfig) -> int:
        return config.selection.epochs or config.epochs

    @override
    def jobs(self, study: Study) -> Iterable[Job]:
        for method, trial in study.unfinished():
            possible = study.candidates(method)
            for division in range(self.divisions(study.config) if len(possible) > 1 else 0):
                for number, values in enumerate(possible):
                    if study.folder.read_note(method, trial, candidate_note(number, division)) is None:
                        yield Job(self, method, trial, values, division=division)

    @override
    def keep(self, study: Study, fit: Fit) -> None:
        job = fit.job
        labels = study.trials.division(self, job.trial, job.division).labels
        found = math.nan if fit.diverged else study.criterion.score(stored_probabilities(fit.logits), labels)
        number = study.candidates(job.method).index(job.values)
        entry = {"values": job.values, "score": found if math.isfinite(found) else None}
        study.folder.write_note(job.method, job.trial, candidate_note(number, job.division), entry)

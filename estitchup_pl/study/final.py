"""The third stage: fits on all training rows, whose predictions on the test rows are the results (Sec. 3.4)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from torch import Tensor
from typing_extensions import override

from estitchup_pl.data.splits import Split, SplitProtocol
from estitchup_pl.store.labels import Rows
from estitchup_pl.study.checkpoints import fit_path, keep_fit
from estitchup_pl.study.config import StudyConfig
from estitchup_pl.study.curve import AccuracyCurve
from estitchup_pl.study.derived import DerivedMethod, Member
from estitchup_pl.study.deriving import keep_derived, member_rows
from estitchup_pl.study.folder import RunRecord
from estitchup_pl.study.methods import NetworkMethod
from estitchup_pl.study.stage import Fit, FitStage, Job
from estitchup_pl.study.study import Study


class FinalFits(FitStage):
    """Fits what the tables are about.

    Args:
        kept: Fits whose classifiers are kept, each with its trial.
    """

    name = "final"
    text = "final fits"

    def __init__(self, kept: Collection[tuple[Member, int]] = ()) -> None:
        self._kept = frozenset(kept)

    @override
    def split(self, config: StudyConfig, outer: SplitProtocol, trial: int, division: int) -> SplitProtocol:
        return outer

    @override
    def labels(self, study: Study, trial: int, division: int) -> Tensor:
        return study.trials.division(self, trial).labels

    @override
    def own_file(self, division: int) -> str:
        return "logits"

    @override
    def scores_file(self, division: int) -> str:
        return "none_scores"

    @override
    def evaluated(self, parts: Split) -> Rows:
        return parts.test

    @override
    def jobs(self, study: Study) -> Iterable[Job]:
        runs = [run for run in study.unfinished() if not self._is_lost(study, *run)]
        missing = {(Member(job.method, job.number), job.trial): job for job in study.missing_fits(self, runs)}
        for fit, trial in sorted(self._kept):
            if not fit_path(study, fit, trial).exists():
                values = study.chosen(fit.method, trial)
                missing[fit, trial] = Job(self, fit.method, trial, values, fit.number, kept=True)
        return missing.values()

    @override
    def curve(self, study: Study, job: Job) -> AccuracyCurve | None:
        found = study.found(job.method, job.trial) or {}
        if job.number or "thresholds" not in found:
            return None
        rows = study.trials.curve_rows(self, job.trial)
        config = study.config
        return AccuracyCurve(rows, found["thresholds"]["intersection"], config.curve_every, config.epochs)

    @override
    def keep(self, study: Study, fit: Fit) -> None:
        job = fit.job
        if job.kept and not fit.diverged:
            keep_fit(study, fit)
        if fit.diverged or study.folder.read_logits(job.method, job.trial, self.file(job.number)) is None:
            study.keep_logits(self, fit)

    @override
    def finish(self, study: Study) -> None:
        for name, trial in study.unfinished():
            lost = self._is_lost(study, name, trial) or study.has_diverged(self, name, trial)
            method = study.methods[name]
            if isinstance(method, DerivedMethod) and not lost:
                rows = member_rows(study, self, method, trial)
                keep_derived(study, self, name, trial, rows, study.learnt(name, trial))
            study.folder.write_run(self._record(study, name, trial, lost))

    def _record(self, study: Study, name: str, trial: int, diverged: bool) -> RunRecord:
        division, found = study.trials.division(self, trial), study.found(name, trial) or {}
        has_epochs = any(isinstance(study.methods[member.method], NetworkMethod) for member in study.members(name))
        return RunRecord(
            name,
            trial,
            class_names=division.class_names,
            thresholds=found.get("thresholds", {}),
            threshold_intervals=found.get("threshold_intervals", {}),
            chosen=study.chosen(name, trial),
            selection=found.get("compared") or study.scores(name, trial),
            parameters=found.get("parameters", {}),
            train_rows=len(division.train),
            epochs=study.config.epochs if has_epochs else 0,
            diverged=diverged,
        )

    def _is_lost(self, study: Study, method: str, trial: int) -> bool:
        """Whether a fit for the thresholds has diverged."""
        return bool((study.found(method, trial) or {}).get("diverged"))

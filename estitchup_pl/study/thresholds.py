"""The second stage: fits without some classes, whose validation rows give the thresholds (Sec. 4.3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from typing_extensions import override

from estitchup_pl.data.splits import SplitProtocol, ThresholdSplit
from estitchup_pl.functional import HEURISTICS, select_threshold
from estitchup_pl.study.config import StudyConfig
from estitchup_pl.study.folder import stored_probabilities
from estitchup_pl.study.methods import DerivedMethod
from estitchup_pl.study.stage import Fit, FitStage, Job
from estitchup_pl.study.study import Study


class Thresholds(FitStage):
    """Finds each method's thresholds, and what a derived method learns from the same rows."""

    name = "threshold"
    text = "finding thresholds"
    own_file = "threshold_logits"

    @override
    def split(self, config: StudyConfig, outer: SplitProtocol, trial: int, number: int) -> SplitProtocol:
        return ThresholdSplit(outer, trial, held_out=config.held_out)

    @override
    def jobs(self, study: Study) -> Iterable[Job]:
        return study.missing_fits(self, [run for run in study.unfinished() if study.found(*run) is None])

    @override
    def keep(self, study: Study, fit: Fit) -> None:
        study.keep_logits(self, fit)

    @override
    def finish(self, study: Study) -> None:
        for method, trial in study.unfinished():
            if study.found(method, trial) is None:
                study.folder.write_note(method, trial, "threshold", self._find(study, method, trial))

    def _find(self, study: Study, name: str, trial: int) -> dict[str, Any]:
        method, labels = study.methods[name], study.trials.division(self, trial).labels
        members, parameters = study.member_logits(self, name, trial), {}
        if members is None:
            return {"diverged": True}
        if isinstance(method, DerivedMethod):
            parameters = method.learn(members, labels)
            members = [method.combine(members, parameters)]
            study.folder.write_logits(name, trial, self.own_file, members[0].numpy())
        confidence, predicted = stored_probabilities(members[0].numpy().astype(np.float16)).max(dim=-1)
        thresholds = {kind: float(select_threshold(confidence, predicted, labels, kind)) for kind in HEURISTICS}
        return {"diverged": False, "parameters": parameters, "thresholds": thresholds}

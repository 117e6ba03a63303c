"""The second stage: fits without some classes, whose validation rows give the thresholds (Sec. 4.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from estitchup_pl.batch import NONE
from estitchup_pl.data.splits import SplitProtocol, ThresholdSplit
from estitchup_pl.functional import HEURISTICS, select_threshold
from estitchup_pl.study.config import StudyConfig
from estitchup_pl.study.final import FinalFits
from estitchup_pl.study.folder import stored_probabilities
from estitchup_pl.study.methods import DerivedMethod
from estitchup_pl.study.stage import Fit, FitStage, Job, Logits
from estitchup_pl.study.study import Study


class Thresholds(FitStage):
    """Finds each method's thresholds, and what a derived method learns, on the pooled rows of several splits.

    Logits are kept in the order of the final fit's classes; those of a class that was held out are minus infinity.
    """

    name = "threshold"
    text = "finding thresholds"

    @override
    def split(self, config: StudyConfig, outer: SplitProtocol, trial: int, division: int) -> SplitProtocol:
        return ThresholdSplit(outer, trial, held_out=config.held_out, repeat=division)

    @override
    def divisions(self, config: StudyConfig) -> int:
        return config.repeats

    @override
    def own_file(self, division: int) -> str:
        return f"threshold/{division}"

    @override
    def jobs(self, study: Study) -> Iterable[Job]:
        return study.missing_fits(self, [run for run in study.unfinished() if study.found(*run) is None])

    @override
    def keep(self, study: Study, fit: Fit) -> None:
        job = fit.job
        own = study.trials.division(self, job.trial, job.division).class_names
        names = study.trials.division(FinalFits(), job.trial).class_names
        study.keep_logits(self, fit if fit.diverged else replace(fit, logits=widened(fit.logits, own, names)))

    @override
    def finish(self, study: Study) -> None:
        for method, trial in study.unfinished():
            if study.found(method, trial) is None:
                study.folder.write_note(method, trial, "threshold", self._find(study, method, trial))

    def _find(self, study: Study, name: str, trial: int) -> dict[str, Any]:
        method, repeats = study.methods[name], range(study.config.repeats)
        members = [study.member_logits(self, name, trial, repeat) for repeat in repeats]
        labels = torch.cat([self.labels(study, trial, repeat) for repeat in repeats])
        found, parameters = [one for one in members if one is not None], {}
        if len(found) < len(members):
            return {"diverged": True}
        if isinstance(method, DerivedMethod):
            parameters = method.learn([torch.cat(one) for one in zip(*found, strict=True)], labels)
            found = [[method.combine(one, parameters)] for one in found]
            for repeat, (logits,) in enumerate(found):
                study.folder.write_logits(name, trial, self.file(0, repeat), logits.numpy())
        pooled = torch.cat([one[0] for one in found]).numpy().astype(np.float16)
        return {"diverged": False, "parameters": parameters, "thresholds": thresholds(pooled, labels)}

    def labels(self, study: Study, trial: int, repeat: int) -> Tensor:
        """Class of the final fit, or ``NONE``, of the rows that one of the splits validates on, int64 ``(rows,)``."""
        division = study.trials.division(self, trial, repeat)
        names = study.trials.division(FinalFits(), trial).class_names
        labels = torch.from_numpy(study.trials.labels.index(names)[division.evaluated])
        return labels.where(division.labels != NONE, NONE)


def thresholds(logits: Logits, labels: Tensor) -> dict[str, float]:
    """Confidence threshold of each heuristic, of logits ``(rows, classes)`` as they are stored."""
    confidence, predicted = stored_probabilities(logits).max(dim=-1)
    return {kind: float(select_threshold(confidence, predicted, labels, kind)) for kind in HEURISTICS}


def widened(logits: Logits, own: Sequence[str], names: Sequence[str]) -> Logits:
    """Logits in the order of other classes; of those that a fit does not know they are minus infinity.

    Args:
        logits: Those of the fit, ``(rows, classes)``.
        own: Its classes.
        names: The classes that are wanted; all of its own are among them.

    Example:
        >>> widened(np.array([[1, 2]], dtype=np.float16), ["a", "c"], ["a", "b", "c"]).tolist()
        [[1.0, -inf, 2.0]]
    """
    wide = np.full((len(logits), len(names)), -np.inf, dtype=np.float16)
    wide[:, [names.index(name) for name in own]] = logits
    return wide

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
from estitchup_pl.functional import acceptance, threshold_interval
from estitchup_pl.study.building import told
from estitchup_pl.study.config import StudyConfig
from estitchup_pl.study.derived import DerivedMethod, Learnt
from estitchup_pl.study.deriving import keep_derived, member_rows
from estitchup_pl.study.folder import stored_probabilities
from estitchup_pl.study.stage import Fit, FitStage, Job, Logits
from estitchup_pl.study.study import LEARNT, Study


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
    def scores_file(self, division: int) -> str:
        return f"threshold/{division}_none_scores"

    @override
    def jobs(self, study: Study) -> Iterable[Job]:
        return study.missing_fits(self, [run for run in study.unfinished() if study.found(*run) is None])

    @override
    def keep(self, study: Study, fit: Fit) -> None:
        job = fit.job
        own = study.trials.division(self, job.trial, job.division).class_names
        names = study.trials.class_names(job.trial)
        study.keep_logits(self, fit if fit.diverged else replace(fit, logits=widened(fit.logits, own, names)))

    @override
    def finish(self, study: Study) -> None:
        for name, trial in study.unfinished():
            if study.found(name, trial) is None:
                lost = study.has_diverged(self, name, trial)
                note = {"diverged": True} if lost else self._find(study, name, trial)
                study.folder.write_note(name, trial, "threshold", note)

    def _find(self, study: Study, name: str, trial: int) -> dict[str, Any]:
        method, compared = study.methods[name], list[dict[str, Any]]()
        learnt: Learnt = {}
        if isinstance(method, DerivedMethod):
            splits = range(study.config.repeats)
            repeats = [member_rows(study, self, method, trial, division) for division in splits]
            learnt, compared = method.learn(repeats), method.compared(repeats)
            for division, rows in enumerate(repeats):
                others = repeats[:division] + repeats[division + 1 :]
                own = method.learn(others) if method.cross_fit and others else learnt
                keep_derived(study, self, name, trial, rows, own, division)
            arrays = {key: value for key, value in learnt.items() if isinstance(value, Tensor)}
            study.folder.write_arrays(name, trial, LEARNT, arrays)
        return {
            "diverged": False,
            "parameters": {key: _plain(value) for key, value in learnt.items() if not _is_array(value)},
            "compared": compared,
            **self._thresholds(study, name, trial),
        }

    def _thresholds(self, study: Study, name: str, trial: int) -> dict[str, Any]:
        """Threshold of each rule on the pooled rows, as they are kept, and how far it can be trusted."""
        splits = range(study.config.repeats)
        probabilities, labels = self.pooled(study, name, trial)
        accepted = self.accepted(study, name, trial, probabilities)
        predicted = probabilities.argmax(dim=-1)
        pooled = np.concatenate([study.trials.division(self, trial, split).evaluated for split in splits])
        rows, classes = (accepted, predicted, labels), torch.from_numpy(study.trials.labels.codes[pooled])
        found, intervals = dict[str, float](), dict[str, Any]()
        for kind, rule in study.rules.items():
            with told(f"thresholds.{kind}, {name}, trial {trial}"):
                found[kind] = float(rule(*rows))
                intervals[kind] = threshold_interval(rule, *rows, classes)._asdict()
        return {"thresholds": found, "threshold_intervals": intervals}

    def pooled(self, study: Study, name: str, trial: int) -> tuple[Tensor, Tensor]:
        """Probabilities ``(rows, classes)`` and labels ``(rows,)`` of the rows of all splits, as they are kept."""
        splits = range(study.config.repeats)
        logits = [study.folder.read_logits(name, trial, self.file(0, split)) for split in splits]
        probabilities = stored_probabilities(np.concatenate([one for one in logits if one is not None]))
        return probabilities, torch.cat([self.labels(study, trial, split) for split in splits])

    def accepted(self, study: Study, name: str, trial: int, probabilities: Tensor) -> Tensor:
        """Acceptance of the same rows, ``(rows,)``."""
        splits = range(study.config.repeats)
        scores = [study.folder.read_scores(name, trial, self.scores_file(split)) for split in splits]
        known = [torch.from_numpy(one) for one in scores if one is not None]
        return acceptance(probabilities, torch.cat(known) if known else None)

    @override
    def labels(self, study: Study, trial: int, division: int) -> Tensor:
        rows = study.trials.division(self, trial, division)
        names = study.trials.class_names(trial)
        labels = torch.from_numpy(study.trials.labels.index(names)[rows.evaluated])
        return labels.where(rows.labels != NONE, NONE)


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


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

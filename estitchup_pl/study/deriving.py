"""What the members of a derived method say, read from a study's folder, and what it makes of that, written there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from estitchup_pl.study.derived import DerivedMethod, Learnt, Member, MemberRows
from estitchup_pl.study.stage import FitStage, rounded
from estitchup_pl.study.study import Study


def member_rows(study: Study, stage: FitStage, method: DerivedMethod, trial: int, division: int = 0) -> MemberRows:
    """What the members of a method say of the rows of one division; none of them has diverged.

    Args:
        study: The study, in which all of the members' outputs are there.
        stage: The stage.
        method: The method.
        trial: The trial.
        division: The division of the trial's training rows.
    """

    def logits(members: Sequence[Member]) -> list[Tensor]:
        files = [(member.method, stage.file(member.number, division)) for member in members]
        kept = [study.folder.read_logits(name, trial, file) for name, file in files]
        return [torch.from_numpy(one).float() for one in kept if one is not None]

    fits_of = [[member] if member.number else study.members(member.method) for member in method.members]

    scores = [
        None if member.number else study.folder.read_scores(member.method, trial, stage.scores_file(division))
        for member in method.members
    ]
    return MemberRows(
        logits(method.members),
        stage.labels(study, trial, division),
        study.trials.class_counts(study.trials.division(stage, trial, division)),
        [None if one is None else torch.from_numpy(one) for one in scores],
        [frozenset(fits) for fits in fits_of],
        lambda member: torch.stack(logits(fits_of[member])),
        study.scaled_rows(stage, fits_of[0][0].method, trial, division, method.score_scaling),
    )


def keep_derived(
    study: Study, stage: FitStage, name: str, trial: int, rows: MemberRows, learnt: Learnt, division: int = 0
) -> None:
    """Write what a derived method makes of its members; its logits last."""
    method = study.methods[name]
    if isinstance(method, DerivedMethod):
        logits = rounded(method.combine(rows, learnt))
        scores = method.none_scores(rows, torch.from_numpy(logits).float(), learnt)
        if scores is not None:
            study.folder.write_scores(name, trial, stage.scores_file(division), scores.numpy())
        study.folder.write_logits(name, trial, stage.file(0, division), logits)

"""One choice among methods, made on validation rows alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import t as student_t
from torch import Tensor
from typing_extensions import override

from estitchup_pl.batch import NONE
from estitchup_pl.data.datamodule import EmbeddingDataModule
from estitchup_pl.errors import ConfigError, did_you_mean
from estitchup_pl.functional import expected_calibration_error, mean_logits, moments, squash, sum_of_z_scores, top_label
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.study.derived import DerivedMethod, Learnt, Member, MemberRows
from estitchup_pl.study.evaluation import Criterion, study_metrics

TEST_TO_TRAIN = 3 / 7
"""Rows of a threshold split that validate, for each that trains; see :func:`standard_error`."""

BY_CHANCE = 0.05
"""Chance at most that any of equally well calibrated candidates is dropped for its calibration."""

FEW_ROWS = 3
"""Median of the training rows of a class below which hardly any train; a threshold split leaves 70 % of them."""

LEAST_SCORE = 1e-7
"""Scores of "none" are kept this far from 0 and 1, so that their log odds are finite."""


Output = tuple[Tensor, Tensor, Tensor | None]
"""Probabilities ``(rows, classes)``, labels ``(rows,)``, and scores of "none" ``(rows,)``, None for the paper's."""


@dataclass(frozen=True)
class Candidate:
    """What can be chosen.

    Attributes:
        name: Its name.
        scores: Its target on each threshold split.
        eces: Calibration error of its confidence on the known rows of each, in ``[0, 1]``.
    """

    name: str
    scores: tuple[float, ...]
    eces: tuple[float, ...]

    @property
    def score(self) -> float:
        """Mean target."""
        return float(np.mean(self.scores))

    @property
    def ece(self) -> float:
        """Mean calibration error."""
        return float(np.mean(self.eces))

    @classmethod
    def of(cls, name: str, splits: Sequence[Output], criterion: Criterion) -> Candidate:
        """Measure what can be chosen on threshold splits.

        Args:
            name: Its name.
            splits: What it says of the validation rows of each.
            criterion: What is compared.
        """
        scores = tuple(criterion.score(*split) for split in splits)
        return cls(name, scores, tuple(map(_ece_of_known, splits)))

    def error_to(self, other: Candidate) -> float:
        """Standard error of the difference of two mean targets."""
        return standard_error(np.subtract(self.scores, other.scores))

    def without(self, split: int) -> Candidate:
        """The same on the other splits."""
        return replace(self, scores=_without(self.scores, split), eces=_without(self.eces, split))


def standard_error(differences: npt.NDArray[np.float64]) -> float:
    """Standard error of the mean difference of two candidates over random splits (Nadeau & Bengio, 2003).

    Differences are taken split by split: what is hard in one split is so for all. The splits share rows, so the error
    does not fall with their number alone: the share of rows that validate stands beside it.

    Args:
        differences: One a split, ``(splits,)``.

    Returns:
        The error; 0 where there is one split alone.

    Example:
        >>> round(standard_error(np.array([0.01, 0.03])), 4)
        0.0136
    """
    if differences.size < 2:
        return 0.0
    return float(differences.std(ddof=1) * math.sqrt(1 / differences.size + TEST_TO_TRAIN))


def select(candidates: Sequence[Candidate], higher_is_better: bool = True) -> Candidate:
    """Choose among candidates by their target, if choosing is shown to pay; else take the first.

    The first of the list is what one would take without looking. The best of many is the best by luck too, above all
    where few rows validate, so choosing is itself measured: on each split by what :func:`best_of_equals` takes on the
    others. It must beat the first by more than one standard error of the difference, or the first must be worse
    calibrated than what was chosen by more than chance explains where the best of as many candidates is looked for.
    With one split there is nothing to measure that by, and :func:`best_of_equals` decides.

    Args:
        candidates: What can be chosen, each on the same splits.
        higher_is_better: Whether the greatest target is the best, or the least.

    Raises:
        ConfigError: If no candidate has a target.

    Example:
        >>> better = Candidate("better", (0.7, 0.9, 0.7), (0.1, 0.1, 0.1))
        >>> select([Candidate("first", (0.6, 0.8, 0.6), (0.1, 0.1, 0.1)), better]).name  # in each split
        'better'
        >>> select([Candidate("first", (0.8, 0.75, 0.7), (0.1, 0.1, 0.1)), better]).name  # only in one of three
        'first'
    """
    first, chosen = candidates[0], best_of_equals(candidates, higher_is_better)
    splits = range(len(first.scores))
    if len(splits) < 2 or not math.isfinite(first.score):
        return chosen
    others = [best_of_equals([one.without(split) for one in candidates], higher_is_better).name for split in splits]
    taken = {one.name: one.scores for one in candidates}
    gains = np.array([taken[name][split] - first.scores[split] for split, name in enumerate(others)])
    pays = (gains.mean() if higher_is_better else -gains.mean()) > standard_error(gains)
    return chosen if pays or is_worse_calibrated(first, chosen, len(candidates)) else first


def best_of_equals(candidates: Sequence[Candidate], higher_is_better: bool = True) -> Candidate:
    """The first of the candidates that are as good as the best, and not worse calibrated than others of these.

    As good are those whose mean target falls short of the best by no more than one standard error of the difference. Of
    these, whatever is worse calibrated on known rows than the best calibrated by more than chance explains is dropped.

    Args:
        candidates: What can be chosen, each on the same splits.
        higher_is_better: Whether the greatest target is the best, or the least.

    Raises:
        ConfigError: If no candidate has a target.

    Example:
        >>> best = Candidate("best", (0.7, 0.9), (0.1, 0.1))
        >>> best_of_equals([Candidate("first", (0.75, 0.8), (0.1, 0.1)), best]).name  # 0.025 less, with an error of 0.1
        'first'
    """
    best = best_of(candidates, higher_is_better)
    equals = [one for one in candidates if abs(best.score - one.score) <= one.error_to(best)]
    sure = min(equals, key=lambda one: one.ece)
    return next(one for one in equals if not is_worse_calibrated(one, sure, len(equals)))


def is_worse_calibrated(one: Candidate, other: Candidate, comparisons: int) -> bool:
    """Whether a candidate's calibration error exceeds another's by more than chance explains.

    Args:
        one: The candidate.
        other: The other, on the same splits.
        comparisons: Number of candidates of which the other is the best calibrated.
    """
    differences = np.subtract(one.eces, other.eces)
    return bool(differences.mean() > errors_beyond_chance(differences.size, comparisons) * standard_error(differences))


def errors_beyond_chance(splits: int, comparisons: int) -> float:
    """Standard errors that none of several differences over splits exceeds by chance, but in a twentieth of all cases.

    Student's t with the degrees of freedom of the splits, divided among the comparisons (Bonferroni).

    Example:
        >>> round(errors_beyond_chance(5, 1), 2), round(errors_beyond_chance(5, 20), 2), errors_beyond_chance(1, 20)
        (2.13, 5.6, 0.0)
    """
    return float(student_t.ppf(1 - BY_CHANCE / comparisons, splits - 1)) if splits > 1 else 0.0


def best_of(candidates: Sequence[Candidate], higher_is_better: bool = True) -> Candidate:
    """The candidate with the best mean target, the first of equals.

    Raises:
        ConfigError: If no candidate has a target.
    """
    there = [candidate for candidate in candidates if math.isfinite(candidate.score)]
    if not there:
        raise ConfigError("nothing to choose from: the target of every candidate is undefined on the validation rows")
    return (max if higher_is_better else min)(there, key=lambda candidate: candidate.score)


@dataclass
class Chosen(DerivedMethod):
    """In each trial the best of other methods, or the average of the best, by validation rows alone.

    Each method is measured on each threshold split by the target, decided there by what the other splits have taught;
    :func:`select` chooses. Averages take the mean of the probabilities, and that of the standardised log odds of the
    scores of "none". No test row is looked at.

    Args:
        methods: Names of the methods to choose from. Where validation rows cannot tell, the first is taken: begin with
            those that you would trust without looking.
        target: Metric to choose by: any of :func:`~estitchup_pl.study.study_metrics` that needs no threshold.
        average: Methods that are averaged at most; 1 for no averages.
        few_rows: Those of the methods that come first where hardly any rows train: where the fits of the threshold
            splits have fewer than :data:`FEW_ROWS` of most classes.

    Raises:
        ConfigError: If there is nothing to choose from, or no such metric or method.
    """

    cross_fit = False

    methods: list[str]
    target: str = "aupr"
    average: int = 5
    few_rows: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.methods or self.average < 1:
            raise ConfigError(f"methods and average: expected at least one each, got {self.methods}, {self.average}")
        for name in self.few_rows:
            if name not in self.methods:
                raise ConfigError(f"few_rows: {name!r} is none of the methods{did_you_mean(name, self.methods)}")

    @override
    def check(self) -> None:
        self.criterion  # noqa: B018  # found, or the name is refused

    @cached_property
    def criterion(self) -> Criterion:
        """What methods are compared by."""
        return Criterion.of(self.target, study_metrics(), "target")

    @property
    @override
    def members(self) -> Sequence[Member]:
        return [Member(name) for name in self.methods]

    @override
    def learn(self, repeats: Sequence[MemberRows]) -> Learnt:
        candidates = self._candidates(repeats)
        chosen = select([candidate for candidate, _ in candidates], self.criterion.higher_is_better)
        average = next(average for candidate, average in candidates if candidate is chosen)
        return {"chosen": chosen.name, **vars(average)}

    @override
    def combine(self, rows: MemberRows, learnt: Learnt) -> Tensor:
        return _average(learnt).logits(rows)

    @override
    def none_scores(self, rows: MemberRows, logits: Tensor, learnt: Learnt) -> Tensor | None:
        return _average(learnt).none_scores(rows)

    @override
    def used(self, learnt: Learnt) -> Sequence[Member]:
        return [self.members[member] for member in _average(learnt).members.tolist()]

    @override
    def classifier(self, members: Sequence[Path], learnt: Learnt, data: EmbeddingDataModule) -> EmbeddingClassifier:
        if len(members) > 1:
            raise ConfigError(
                f"Chosen has taken the average of {learnt['chosen']}, each calibrated and scored by itself, which one "
                "checkpoint cannot hold: give it `average: 1`, and an Ensemble among its methods"
            )
        return EmbeddingClassifier.load_from_checkpoint(members[0], map_location="cpu")

    @override
    def compared(self, repeats: Sequence[MemberRows]) -> list[dict[str, Any]]:
        candidates, higher = [candidate for candidate, _ in self._candidates(repeats)], self.criterion.higher_is_better
        chosen, best = select(candidates, higher), best_of(candidates, higher)
        return [
            {
                "method": one.name,
                "score": one.score,
                "error": one.error_to(best),
                "ece": one.ece,
                "chosen": one is chosen,
            }
            for one in sorted(candidates, key=lambda one: one.score, reverse=higher)
        ]

    def _candidates(self, repeats: Sequence[MemberRows]) -> list[tuple[Candidate, Average]]:
        """Every method, and averages of the best that have no fit in common."""
        averages = [Average.of([member], repeats) for member in self._order(repeats)]
        singles = [(self._candidate(average, repeats), average) for average in averages]
        sign = 1 if self.criterion.higher_is_better else -1
        ranked = sorted((one for one in singles if math.isfinite(one[0].score)), key=lambda one: -sign * one[0].score)
        unlike: list[int] = []
        for _, average in ranked:
            (member,) = average.members.tolist()
            if all(not repeats[0].fits_of[member] & repeats[0].fits_of[other] for other in unlike):
                unlike.append(member)
        several = [Average.of(unlike[:count], repeats) for count in range(2, min(self.average, len(unlike)) + 1)]
        return singles + [(self._candidate(average, repeats), average) for average in several]

    def _order(self, repeats: Sequence[MemberRows]) -> list[int]:
        """Positions of the methods, the first one that is taken where validation rows cannot tell."""
        counts = np.concatenate([rows.class_counts.numpy() for rows in repeats])
        begin = self.few_rows if np.median(counts) < FEW_ROWS else []
        return [self.methods.index(name) for name in dict.fromkeys([*begin, *self.methods])]

    def _candidate(self, average: Average, repeats: Sequence[MemberRows]) -> Candidate:
        outputs = [(average.logits(rows).sigmoid(), rows.labels, average.none_scores(rows)) for rows in repeats]
        name = " + ".join(self.methods[member] for member in average.members.tolist())
        return Candidate.of(name, outputs, self.criterion)


@dataclass(frozen=True)
class Average:
    """The average of some members, or one of them.

    Attributes:
        members: Their positions, int64 ``(averaged,)``.
        mean: Mean log odds of the scores of "none" of each over validation rows, float64 ``(averaged,)``.
        std: Their standard deviation.
    """

    members: Tensor
    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, members: Sequence[int], repeats: Sequence[MemberRows]) -> Average:
        """Standardise the scores of members over the rows of all threshold splits."""
        return cls(torch.tensor(members), *moments(torch.cat([_log_odds(rows, members) for rows in repeats], dim=1)))

    def logits(self, rows: MemberRows) -> Tensor:
        """Logits of the mean probability, float32 ``(rows, classes)``."""
        logits = [rows.logits[member] for member in self.members.tolist()]
        return logits[0] if len(logits) == 1 else mean_logits(torch.stack(logits))

    def none_scores(self, rows: MemberRows) -> Tensor | None:
        """Scores of "none" ``(rows,)``, or ``None`` where all have the paper's: then the average has as well."""
        members: list[int] = self.members.tolist()
        if all(rows.none_scores[member] is None for member in members):
            return None
        if len(members) == 1:
            return rows.none_scores[members[0]]
        return squash(sum_of_z_scores(_log_odds(rows, members), self.mean, self.std) / len(members))


def _ece_of_known(output: Output) -> float:
    """Calibration error of the rows of known classes."""
    probabilities, labels, _ = output
    confidence, correct = top_label(probabilities[labels != NONE], labels[labels != NONE])
    return float(expected_calibration_error(confidence, correct))


def _without(values: tuple[float, ...], split: int) -> tuple[float, ...]:
    return values[:split] + values[split + 1 :]


def _average(learnt: Learnt) -> Average:
    return Average(**{one.name: learnt[one.name] for one in fields(Average)})


def _log_odds(rows: MemberRows, members: Sequence[int]) -> Tensor:
    """Log odds of the scores of "none", float64 ``(members, rows)``."""
    scores = [(rows.none_scores[member], rows.logits[member]) for member in members]
    return torch.stack(
        [-logits.amax(dim=1).double() if own is None else own.double().logit(LEAST_SCORE) for own, logits in scores]
    )

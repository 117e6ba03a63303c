"""The score of "none" and the threshold beyond which an item is "none" (Secs. 2.5, 4.3)."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from typing_extensions import override

from estitchup_pl.batch import NONE
from estitchup_pl.callbacks.deciding import DecisionCallback, fitting_parts
from estitchup_pl.callbacks.evaluated import EvaluatedRows
from estitchup_pl.callbacks.partners import classifier, data_module
from estitchup_pl.callbacks.taking_over import learn_from_training_rows, read_threshold, take_over
from estitchup_pl.errors import ConfigError
from estitchup_pl.functional import FEW_NONE_ROWS, Heuristic, acceptance, threshold_interval
from estitchup_pl.model.classifier import EmbeddingClassifier
from estitchup_pl.model.decision import ThresholdBasis
from estitchup_pl.model.expectation import Expectation
from estitchup_pl.model.networks import MemberNetwork
from estitchup_pl.model.scores import LogitScore, NoneScore
from estitchup_pl.thresholds import ThresholdRule, threshold_rule


class _Judged(NamedTuple):
    """What a threshold is chosen from, one entry a validation row, and the rows' numbers."""

    acceptance: Tensor
    predicted: Tensor
    labels: Tensor
    rows: Tensor


class OODThreshold(DecisionCallback):
    """Fits the score of "none" and its threshold, and keeps them on the module, which decides by them.

    By default they are fitted after every validation, on a validation set that contains "none" items: rows of classes
    without a training row, as :class:`~estitchup_pl.data.splits.ThresholdSplit` makes them. To train on all rows
    afterwards, as the paper does (Sec. 4.3), hand them over to the second fit with ``checkpoint``, or a number. When a
    fit ends it says what the threshold rests on, and keeps it in the checkpoint.

    Args:
        heuristic: ``"intersection"`` of overall and "none" accuracy, or the largest ``"tp_ratio"``, the ratio of
            true positives to false positives and false negatives, "none" and known classes weighted equally; or a
            :class:`~estitchup_pl.thresholds.ThresholdRule`: by costs, a bound on the error, a wanted coverage.
        score: Score of "none"; what it learns comes from the training rows. Default: the paper's, one minus the
            greatest probability.
        checkpoint: Checkpoint of the fit whose calibration, score and threshold are taken over; nothing is fitted then,
            but for what the score keeps of training rows, which are those of the fit at hand.
        value: Threshold in ``[0, 1]`` to use as it is; nothing is fitted then.

    Raises:
        ConfigError: If ``value`` is outside ``[0, 1]``, or more than one of ``value``, ``checkpoint`` and ``score`` is
            given.
        CheckpointError: If ``checkpoint`` cannot be read or holds no threshold.
    """

    rank: ClassVar[int] = 1

    def __init__(
        self,
        heuristic: Heuristic | ThresholdRule = "intersection",
        score: NoneScore | None = None,
        checkpoint: str | Path | None = None,
        value: float | None = None,
    ) -> None:
        given = [name for name, what in (("checkpoint", checkpoint), ("value", value)) if what is not None]
        if len(given) + (score is not None) > 1:
            names = [*given, *(["score"] if score is not None else [])]
            raise ConfigError(f"OODThreshold takes one of checkpoint, value and score, got {' and '.join(names)}")
        if value is not None and not 0 <= value <= 1:
            raise ConfigError(f"the threshold must lie in [0, 1], got {value}")
        if checkpoint is not None:
            read_threshold(checkpoint)
        self.rule = threshold_rule(heuristic)
        self.score = score
        self.checkpoint = checkpoint
        self.value = value
        self._score: NoneScore | None = None  # of the fit at hand, with what it has learnt from the training rows
        self._judged: _Judged | None = None

    @property
    @override
    def fits(self) -> bool:
        return self.checkpoint is None and self.value is None

    @property
    @override
    def needs_embeddings(self) -> bool:
        return self.score is not None and not isinstance(self.score, LogitScore)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the decision over, or check that the validation set can give one."""
        model, data = classifier(pl_module, self), data_module(trainer)
        if self.fits and self.rule.needs_none and data is not None:
            _check_unknown_rows(data.unknown_validation_rows)
        super().on_fit_start(trainer, pl_module)
        self._score = self._judged = None
        if self.score is not None and self.score.of_members and not isinstance(model.network, MemberNetwork):
            raise ConfigError(
                f"{type(self.score).__name__} compares the members of an ensemble, and the network, "
                f"{type(model.network).__name__}, is none (a MemberNetwork): choose another score"
            )
        if self.value is not None:
            model.threshold = self.value
        if self.checkpoint is not None:
            if others := fitting_parts(trainer):
                raise ConfigError(
                    f"OODThreshold takes calibration and score over with the threshold of {self.checkpoint}, so "
                    f"{type(others[0]).__name__} has nothing to fit: take one of them out"
                )
            model.decision = take_over(self.checkpoint, model, data)

    @override
    def fit_decision(self, trainer: pl.Trainer, model: EmbeddingClassifier, rows: EvaluatedRows) -> None:
        decision = model.decision
        if self.score is not None:
            if self._score is None:
                self._score = copy.deepcopy(self.score)
                learn_from_training_rows(self._score, model, data_module(trainer))
            logits = rows.members if self._score.of_members else rows.logits
            self._score.standardize(rows.embeddings, decision.calibrated(logits))
            decision.score = self._score.to(model.device)
        decided = decision(rows.embeddings, rows.members)
        accepted = acceptance(decided.probabilities, decided.none_scores if decision.score else None)
        self._judged = _Judged(accepted, decided.probabilities.argmax(dim=1), rows.labels, rows.rows)
        decision.threshold = self.rule(*self._judged[:3])
        unknown = int((rows.labels == NONE).sum())
        decision.basis = ThresholdBasis(unknown, len(rows.labels) - unknown)
        decision.expectation = Expectation.of(
            decided.probabilities, decided.none_scores, decision.threshold, rows.labels
        )

    @override
    def conclude(self, trainer: pl.Trainer, model: EmbeddingClassifier) -> None:
        data = data_module(trainer)
        if self._judged is None or model.decision.basis is None:
            return
        if data is not None:  # which knows the class that a "none" row really has
            groups = torch.from_numpy(data.labels.codes).to(self._judged.rows.device)[self._judged.rows]
            found = threshold_interval(self.rule, *self._judged[:3], groups)
            model.decision.basis = replace(model.decision.basis, low=found.low, high=found.high)
        rank_zero_info(f"threshold {model.threshold:.3f} {model.decision.basis}")


def _check_unknown_rows(count: int) -> None:
    """Refuse to fit a threshold on no "none" row, and warn where there are few."""
    if not count:
        raise ConfigError(
            "OODThreshold cannot fit a threshold: no validation row belongs to a class outside training, so "
            'none is "none". Hold classes out (data.split: ThresholdSplit), take the threshold of such a fit '
            "(OODThreshold's checkpoint), or give its value"
        )
    if count < FEW_NONE_ROWS:
        rank_zero_warn(
            f'the threshold will rest on {count} "none" rows, fewer than {FEW_NONE_ROWS}, so another draw would give '
            "quite another one: hold more classes out (data.split.held_out), or label more rows"
        )

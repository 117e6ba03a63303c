"""The one place where outputs become decisions: against the formulas, and into a checkpoint and back."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from estitchup_pl.batch import NONE
from estitchup_pl.errors import CheckpointError, ConfigError
from estitchup_pl.functional import mean_logits
from estitchup_pl.model.calibrators import Temperature
from estitchup_pl.model.decision import Decision, ThresholdBasis
from estitchup_pl.model.packing import pack, unpack
from estitchup_pl.model.scores import Energy, MaxProbability, NeighborDistance, NoneScore, SumOfScores

ROWS, DIM, CLASSES = 40, 6, 3


class OwnScore(NoneScore):
    def __init__(self, direction: list[float], sharpness: float = 1.0) -> None:
        super().__init__()
        self.direction, self.sharpness = direction, sharpness

    def fit(self, embeddings: Tensor, labels: Tensor) -> None:
        pass

    def forward(self, embeddings: Tensor, logits: Tensor) -> Tensor:
        along = embeddings.double() @ torch.tensor(self.direction, dtype=torch.float64)
        return (self.sharpness * along).sigmoid()


def rows(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, CLASSES, (ROWS,), generator=generator)
    return (
        torch.randn(ROWS, DIM, generator=generator),
        3 * torch.randn(ROWS, CLASSES, generator=generator),
        labels,
    )


def fitted() -> Decision:
    embeddings, logits, labels = rows(0)
    calibrator, score = Temperature(), SumOfScores([MaxProbability(), NeighborDistance(k=3)])
    calibrator.fit(logits, labels)
    score.fit(embeddings, labels)
    score.standardize(*rows(1)[:2])
    decision = Decision(calibrator, score, 0.5, basis=ThresholdBasis(12, 28, 0.4, 0.6))
    decision.learn_sets(logits, labels)
    return decision


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_logits_are_calibrated_then_scored_then_compared() -> None:
    decision = fitted()
    embeddings, logits, _ = rows(2)
    decided = decision(embeddings, logits)

    calibrated = logits.numpy() / float(decision.calibrator.temperature)
    assert abs(float(decision.calibrator.temperature) - 1) > 0.05
    np.testing.assert_allclose(decided.probabilities, sigmoid(calibrated), rtol=1e-5)
    bank = rows(0)[0].numpy()
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (embeddings.numpy(), bank)]
    distance = np.sort((1 - unit[0] @ unit[1].T) / 2, axis=1)[:, :3].mean(axis=1)
    naturals, mean, std = [-calibrated.max(1), distance], decision.score.mean.numpy(), decision.score.std.numpy()
    total = sum((natural - m) / s for natural, m, s in zip(naturals, mean, std, strict=True))
    squashed = (1 + total / (1 + abs(total))) / 2
    np.testing.assert_allclose(decided.none_scores, squashed, atol=2e-3)  # the bank is float16
    accepted = 1 - decided.none_scores.numpy() > 0.5
    assert decided.predicted.tolist() == np.where(accepted, calibrated.argmax(1), NONE).tolist()
    assert 0 < accepted.sum() < ROWS


def test_the_papers_decision_is_that_of_the_greatest_probability() -> None:
    embeddings, logits, _ = rows(3)
    threshold = float(logits.sigmoid().amax(dim=1).median())  # one row lies exactly on it
    decided = Decision(threshold=threshold)(embeddings, logits)
    p = sigmoid(logits.double().numpy())
    np.testing.assert_allclose(decided.none_scores, 1 - p.max(1), atol=1e-7)
    on_or_below = (logits.sigmoid().amax(dim=1) <= threshold).numpy()
    assert decided.predicted.tolist() == np.where(on_or_below, NONE, p.argmax(1)).tolist()


def test_without_a_threshold_everything_is_accepted() -> None:
    decision = Decision()
    logits = torch.tensor([[-9.0, -200.0], [-math.inf, -math.inf]])
    assert not decision.has_threshold
    assert decision(torch.empty(2, 0), logits).predicted.tolist() == [0, 0]
    assert Decision(threshold=0.0)(torch.empty(2, 0), logits).predicted.tolist() == [0, NONE]


def test_an_ensemble_decides_by_its_mean_and_scores_by_its_members() -> None:
    class Spread(OwnScore):
        of_members = True

        def forward(self, embeddings: Tensor, logits: Tensor) -> Tensor:
            return logits.double().std(dim=0).amax(dim=-1).tanh()

    members = torch.stack([rows(4)[1], rows(5)[1]])
    calibrator = Temperature()
    calibrator.temperature = torch.tensor(2.0)
    decided = Decision(calibrator, Spread([]), 0.5)(torch.empty(ROWS, 0), members)
    halved = members.double().numpy() / 2
    mean = sigmoid(members.double().numpy()).mean(0)  # what is calibrated is the mean
    np.testing.assert_allclose(decided.probabilities, sigmoid(np.log(mean / (1 - mean)) / 2), rtol=1e-5)
    np.testing.assert_allclose(decided.none_scores, np.tanh(halved.std(0, ddof=1).max(-1)), rtol=1e-5)


@pytest.mark.parametrize("score", [MaxProbability(), Energy()])
def test_a_score_of_one_set_of_logits_sees_the_mean_of_an_ensemble(score: NoneScore) -> None:
    members = torch.stack([rows(4)[1], rows(5)[1]])
    decided = Decision(score=score)(torch.empty(ROWS, 0), members)
    alone = Decision(score=score)(torch.empty(ROWS, 0), mean_logits(members))
    assert torch.equal(decided.none_scores, alone.none_scores)


def test_prediction_sets_are_those_of_the_calibrated_validation_rows() -> None:
    decision, (_, logits, labels) = fitted(), rows(0)
    calibrated = sigmoid(logits.double().numpy() / float(decision.calibrator.temperature))
    known = labels.numpy() != NONE
    unlikely = np.sort(1 - calibrated[known, labels.numpy()[known]])
    np.testing.assert_allclose(decision.unlikely, unlikely, atol=1e-6)
    probabilities = decision(*rows(2)[:2]).probabilities
    for level in (0.5, 0.8):
        greatest = unlikely[int(np.ceil((len(unlikely) + 1) * level)) - 1]
        expected = 1 - probabilities.double().numpy() <= greatest + 1e-7
        assert np.array_equal(decision.sets(probabilities, level).numpy(), expected)
        assert 0 < expected.mean() < 1
    assert bool(decision.sets(probabilities, 0.999).all())


def test_without_validation_rows_of_known_classes_there_are_no_sets() -> None:
    decision = Decision()
    decision.learn_sets(torch.zeros(2, 3), torch.tensor([NONE, NONE]))
    with pytest.raises(ConfigError, match="no validation rows have been kept"):
        decision.sets(torch.zeros(1, 3))


@pytest.mark.parametrize("damaged", [torch.tensor([0.2, 1.5]), torch.tensor([math.nan]), "text"])
def test_damaged_validation_rows_are_no_decision(damaged: object) -> None:
    with pytest.raises(CheckpointError, match="cannot be used"):
        Decision.unpack({**Decision().pack(), "unlikely": damaged})


@pytest.mark.parametrize("value", [-0.1, 1.01, math.inf, math.nan])
def test_a_threshold_outside_its_range_is_refused(value: float) -> None:
    decision = Decision()
    with pytest.raises(ConfigError, match=r"\[0, 1\]"):
        decision.threshold = value
    packed = Decision(threshold=0.5).pack()
    with pytest.raises(CheckpointError, match=r"outside \[0, 1\]"):
        Decision.unpack({**packed, "threshold": value})


def test_it_comes_back_from_a_file_of_plain_values(tmp_path: Path) -> None:
    decision = fitted()
    decision.given = frozenset(["score"])
    torch.save(decision.pack(), tmp_path / "decision.pt")
    loaded = Decision.unpack(torch.load(tmp_path / "decision.pt", weights_only=True))
    assert (loaded.threshold, loaded.given, loaded.basis) == (0.5, {"score"}, ThresholdBasis(12, 28, 0.4, 0.6))
    assert [type(part) for part in loaded.score.scores] == [MaxProbability, NeighborDistance]
    assert loaded.score.scores[1].k == 3
    embeddings, logits, _ = rows(6)
    for mine, theirs in zip(decision(embeddings, logits), loaded(embeddings, logits), strict=True):
        assert torch.equal(mine, theirs)
    plain = Decision.unpack(Decision().pack())
    assert (plain.calibrator, plain.score, plain.has_threshold) == (None, None, False)
    assert plain.unlikely is None
    assert torch.equal(loaded.unlikely, decision.unlikely)


def test_what_was_fitted_is_void_on_new_weights_and_what_was_given_stays() -> None:
    for given in ((), ("threshold",), ("calibrator", "score", "threshold")):
        decision = fitted()
        decision.given = frozenset(given)
        left = decision.given_parts()
        assert decision.is_fitted == (len(given) < 3)
        assert not left.is_fitted
        assert (left.calibrator is not None) == ("calibrator" in given)
        assert (left.score is not None) == ("score" in given)
        assert left.has_threshold == (left.basis is not None) == ("threshold" in given)
        assert (left.unlikely is not None) == ("threshold" in given)
    assert not Decision().is_fitted


def test_a_score_of_ones_own_is_made_again_if_its_class_is_at_hand() -> None:
    packed = pack(OwnScore([1.0, 0.0], sharpness=2.5))
    loaded = unpack(packed, NoneScore.__subclasses__())
    assert isinstance(loaded, OwnScore)
    assert (loaded.direction, loaded.sharpness) == ([1.0, 0.0], 2.5)


@pytest.mark.parametrize(
    "path", ["antigravity.Score", "os.system", "torch.nn.Linear", "estitchup_pl.model.Temperature"]
)
def test_nothing_is_imported_on_a_checkpoints_word(path: str) -> None:
    packed = {"class_path": path, "init_args": {}, "state": {}}
    with pytest.raises(CheckpointError, match=f"names {path}, .* nothing is imported"):
        Decision.unpack({**Decision().pack(), "score": packed})
    assert "antigravity" not in sys.modules


def test_a_damaged_or_foreign_description_is_refused() -> None:
    packed = fitted().pack()
    state = packed["score"]["state"]
    for changed, said in (
        ({**packed["score"], "state": {**state, "mean": torch.tensor([0.0, math.nan])}}, "mean of .* is not finite"),
        ({**packed["score"], "state": {"mean": state["mean"]}}, "of another version: it lacks"),
        ({**packed["score"], "state": {**state, "scores.7.bank": state["mean"]}}, "of another version"),
        ({**packed["score"], "init_args": {"scores": [], "more": 1}}, "cannot be made"),
        ({"class_path": packed["score"]["class_path"]}, "cannot be used"),
    ):
        with pytest.raises(CheckpointError, match=said):
            Decision.unpack({**packed, "score": changed})


def test_a_score_that_no_checkpoint_can_hold_is_refused() -> None:
    class Hidden(OwnScore):
        def __init__(self, of: int) -> None:
            super().__init__([])

    with pytest.raises(ConfigError, match=r"argument 'of' has to be kept as self\.of"):
        pack(Hidden(3))
    with pytest.raises(ConfigError, match=r"argument 'direction' .* plain value"):
        pack(OwnScore([object()]))


def test_nothing_in_it_is_trained_and_what_comes_in_is_not_written_to() -> None:
    class Weighted(Energy):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

    assert not any(weight.requires_grad for weight in Decision(score=Weighted()).parameters())
    embeddings, logits, _ = rows(7)
    before = embeddings.clone(), logits.clone()
    fitted()(embeddings, logits)
    assert torch.equal(embeddings, before[0])
    assert torch.equal(logits, before[1])

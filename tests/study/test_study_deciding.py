"""Methods whose fits are decided otherwise: what is kept is what the formulas give on rows nothing was learnt from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pytest
import torch
from scipy.special import expit
from sklearn.neighbors import NearestNeighbors
from small import digits_config, method

from estitchup_pl.batch import NONE
from estitchup_pl.data import digits_store
from estitchup_pl.functional import HEURISTICS, fit_temperature, select_threshold
from estitchup_pl.model.scores import NoneScore
from estitchup_pl.study import StudyConfig, StudyFolder, run_study

Array = npt.NDArray[Any]


def rows_of(folder: StudyFolder, trial: int, column: str, part: str) -> Array:
    table = folder.trial(trial)
    return table.filter(pc.equal(table[column], part))["row"].to_numpy()


def parts_of_the_sum(logits: Array, train: Array, evaluated: Array) -> Array:
    """Minus the greatest logit, and half the mean cosine distance to five training rows, of standardised digits."""
    store = digits_store()
    rows = store.gather(np.arange(len(store)), list(store.modalities)).astype(np.float64)
    deviation = rows[train].std(0)
    scaled = (rows - rows[train].mean(0)) / np.where(deviation > 0, deviation, 1)
    near = NearestNeighbors(n_neighbors=5, metric="cosine").fit(scaled[train])
    return np.stack([-logits.max(1), near.kneighbors(scaled[evaluated])[0].mean(1) / 2])


def squashed(values: Array) -> Array:
    return (1 + values / (1 + np.abs(values))) / 2


def test_a_sum_is_standardised_on_validation_rows_and_scores_test_rows_by_the_final_training_rows(folder: StudyFolder):
    base = [folder.read_logits("Control", 0, f"threshold/{split}").astype(np.float64) for split in (0, 1)]
    labels = [kept_labels(folder, split) for split in (0, 1)]
    pooled = torch.from_numpy(np.concatenate(base)).clamp(min=-1e6), torch.from_numpy(np.concatenate(labels))
    temperature = fit_temperature(pooled[0][pooled[1] != NONE], pooled[1][pooled[1] != NONE])
    assert folder.record("Sum", 0).parameters["calibrator.temperature"] == pytest.approx(temperature, rel=1e-6)
    moments = []
    for split in (0, 1):
        train, val = (rows_of(folder, 0, f"threshold_part_{split}", part) for part in ("fit", "val"))
        parts = parts_of_the_sum(base[split] / temperature, train, val)
        moments.append((parts.mean(1), parts.std(1)))
    mean, std = np.mean(moments, axis=0)
    train, test = (rows_of(folder, 0, "part", part) for part in ("train", "test"))
    logits = folder.read_logits("Sum", 0, "logits").astype(np.float64)
    np.testing.assert_allclose(logits, folder.read_logits("Control", 0, "logits") / temperature, atol=2e-2)
    expected = squashed(((parts_of_the_sum(logits, train, test) - mean[:, None]) / std[:, None]).sum(0))
    np.testing.assert_allclose(folder.read_scores("Sum", 0, "none_scores"), expected, atol=2e-3)
    assert folder.predictions("Sum", 0).none_scores.std() > 0.1


def kept_labels(folder: StudyFolder, split: int) -> Array:
    table, names = folder.trial(0).to_pandas(), folder.record("Control", 0).class_names
    part = table[f"threshold_part_{split}"]
    known = set(table["label"][part == "fit"])
    return np.array([names.index(label) if label in known else NONE for label in table["label"][part == "val"]])


def test_rows_of_a_threshold_split_are_decided_by_what_the_other_splits_have_taught(folder: StudyFolder):
    for split in (0, 1):
        base, own = (folder.read_logits(name, 0, f"threshold/{split}").astype(float) for name in ("Control", "Sum"))
        other = torch.from_numpy(folder.read_logits("Control", 0, f"threshold/{1 - split}")).double().clamp(min=-1e6)
        labels = torch.from_numpy(kept_labels(folder, 1 - split))
        temperature = fit_temperature(other[labels != NONE], labels[labels != NONE])
        finite = np.isfinite(base)
        np.testing.assert_allclose(own[finite], base[finite] / temperature, rtol=2e-3, atol=1e-5)
        assert (own[~finite] == -np.inf).all()


def test_thresholds_and_metrics_are_those_of_the_scores_that_were_kept(folder: StudyFolder):
    record = folder.record("Sum", 1)
    scores = np.concatenate([folder.read_scores("Sum", 1, f"threshold/{split}_none_scores") for split in (0, 1)])
    kept = folder.threshold_predictions("Sum", 1)
    accepted = torch.from_numpy((1 - scores.astype(np.float64)).astype(np.float32))
    predicted = kept.probabilities.argmax(1)
    for heuristic in HEURISTICS:
        found = float(select_threshold(accepted, predicted, kept.labels, heuristic))
        assert record.thresholds[heuristic] == found
    test = folder.predictions("Sum", 1)
    results = folder.results().to_pandas().query("method == 'Sum' and trial == 1").set_index("metric")["value"]
    decided = np.where(1 - test.none_scores.numpy() > record.thresholds["tp_ratio"], test.probabilities.argmax(1), NONE)
    assert results["accuracy/tp_ratio"] == pytest.approx((decided == test.labels.numpy()).mean())
    plain = folder.results().to_pandas().query("method == 'Control' and trial == 1").set_index("metric")["value"]
    assert results["aupr"] != plain["aupr"]
    assert results["accuracy_top1_id"] == plain["accuracy_top1_id"]


class FarFromZero(NoneScore):
    """A user's score, with a moment to learn."""

    def __init__(self, power: float = 2.0) -> None:
        super().__init__()
        self.power = power
        self.declare("longest", "mean")

    def fit(self, embeddings, labels):
        assert labels.max() < 6 or len(embeddings) > 250  # the classes of a threshold split are counted from 0
        self.longest = embeddings.norm(dim=1).amax().double()

    def standardize(self, embeddings, logits):
        self.mean = embeddings.norm(dim=1).double().mean()

    def forward(self, embeddings, logits):
        return (embeddings.norm(dim=1).double() / (self.longest + self.mean)).clamp(max=1) ** self.power


def test_a_score_of_ones_own_learns_and_an_ensemble_has_members_to_disagree(tmp_path):
    own = method("Decided", base="Control", score=method(f"{__name__}.FarFromZero", power=1.0))
    split = method("Decided", base="Both", score=method("Disagreement"))
    methods = {
        "Control": {},
        "E-Stitchup": {"callbacks": ["EStitchup"]},
        "Both": method("Ensemble", base=["Control", "E-Stitchup"]),
        "Far": own,
        "Split": split,
    }
    config: StudyConfig = digits_config(methods=methods, trials=1, epochs=2)
    folder = run_study(config, StudyFolder(tmp_path))
    far = folder.predictions("Far", 0).none_scores
    assert set(folder.record("Far", 0).parameters) == {"score.mean"}
    assert 0.1 < float(far.min()) < float(far.max()) <= 1
    members = np.stack([folder.read_logits(name, 0, "logits").astype(float) for name in ("Control", "E-Stitchup")])
    np.testing.assert_allclose(folder.predictions("Both", 0).probabilities, expit(members).mean(0), atol=1e-3)
    shares = np.exp(members) / np.exp(members).sum(-1, keepdims=True)
    entropy = -(shares * np.log(shares)).sum(-1)
    mean = shares.mean(0)
    expected = (-(mean * np.log(mean)).sum(-1) - entropy.mean(0)) / np.log(2)
    np.testing.assert_allclose(folder.predictions("Split", 0).none_scores, expected, atol=1e-3)

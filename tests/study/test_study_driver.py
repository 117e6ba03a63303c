"""The protocol: who trains on which rows, what is chosen, and what is kept."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from small import SOFTEN, STITCH, digits_config

from estitchup_pl import EmbeddingDataModule
from estitchup_pl.batch import NONE
from estitchup_pl.functional import fit_temperature, select_threshold
from estitchup_pl.study import MethodConfig, SelectionConfig, StudyConfig, StudyFolder, run_study
from estitchup_pl.study.trials import Trials


def test_every_run_is_there_with_predictions_on_exactly_the_test_rows(folder: StudyFolder, config: StudyConfig):
    for method in config.methods:
        for trial in range(config.trials):
            predictions, table = folder.predictions(method, trial), folder.trial(trial).to_pydict()
            test = [row for row, part in zip(table["row"], table["part"], strict=True) if part == "test"]
            assert predictions.rows.tolist() == test
            assert predictions.probabilities.shape == (len(test), 8)
            assert bool((predictions.probabilities.sum(-1) > 0).all())
            assert set(np.array(table["label"])[[p == "train" for p in table["part"]]]) == set(predictions.class_names)


def test_the_split_of_a_trial_is_shared_by_all_methods_and_trials_differ(folder: StudyFolder):
    first = [folder.predictions(method, 0).rows for method in ("Control", "E-Stitchup", "Regression")]
    np.testing.assert_array_equal(first[0], first[1])
    np.testing.assert_array_equal(first[0], first[2])
    assert not np.array_equal(first[0], folder.predictions("Control", 1).rows)


def test_thresholds_are_those_of_the_kept_validation_predictions(folder: StudyFolder, config: StudyConfig):
    for method in config.methods:
        record, predictions = folder.record(method, 1), folder.threshold_predictions(method, 1)
        assert len(predictions.class_names) == 6  # two of eight are held out
        assert bool((predictions.labels == NONE).any())
        confidence, predicted = predictions.probabilities.max(-1)
        for heuristic in ("intersection", "tp_ratio"):
            expected = select_threshold(confidence, predicted, predictions.labels, heuristic)
            assert record.thresholds[heuristic] == float(expected)


def test_the_best_candidate_is_chosen_and_all_are_kept(folder: StudyFolder):
    record = folder.record("E-Stitchup", 0)
    assert {entry["alpha"] for entry in record.selection} == {0.2, 0.8}
    best = max(record.selection, key=lambda entry: entry["score"])
    assert record.chosen == {"alpha": best["alpha"]}
    assert folder.record("Control", 0).chosen == {}
    assert folder.record("Ensemble", 0).chosen == record.chosen


def test_no_fit_and_no_choice_sees_an_evaluation_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = digits_config(
        trials=1, selection=SelectionConfig(epochs=1, strategy="hierarchical_bootstrap", resamples=2), epochs=2
    )
    trials = Trials(config)
    train = trials.parts("final", 0).train
    fitted, gathered = [], []
    loader, gather = EmbeddingDataModule.train_dataloader, Trials.gather

    def spy_on_loader(data: EmbeddingDataModule):
        own = loader(data)
        fitted.append(own.rows.numpy())
        return own

    def spy_on_gather(self: Trials, rows: np.ndarray):
        gathered.append(rows)
        return gather(self, rows)

    monkeypatch.setattr(EmbeddingDataModule, "train_dataloader", spy_on_loader)
    monkeypatch.setattr(Trials, "gather", spy_on_gather)
    run_study(config, StudyFolder(tmp_path))
    assert len(fitted) == 2 * 2 + 2 + 2  # candidates times resamples, thresholds, final fits
    assert all(np.isin(rows, train).all() for rows in fitted)
    assert all(np.isin(rows, train).all() for rows in gathered[: 2 * 2 + 2])  # scores, then thresholds


def test_methods_of_a_trial_begin_with_the_same_weights_and_members_of_an_ensemble_do_not():
    trials = Trials(digits_config())
    assert trials.seed("final", 0, 0) != trials.seed("final", 0, 1)
    assert len({trials.seed(stage, trial, 0) for stage in ("threshold", "final") for trial in (0, 1)}) == 4


def test_temperature_is_fitted_on_known_validation_rows_and_takes_the_logits_of_its_base(folder: StudyFolder):
    record, base = folder.record("Scaled", 0), folder.record("E-Stitchup", 0)
    assert record.logits_of == "E-Stitchup"
    validation = folder.threshold_predictions("E-Stitchup", 0)
    known = validation.labels != NONE
    logits = torch.logit(validation.probabilities.double()[known])
    assert record.temperature == pytest.approx(fit_temperature(logits, validation.labels[known]), rel=1e-3)
    assert record.temperature != 1 == base.temperature
    scaled, plain = folder.predictions("Scaled", 0), folder.predictions("E-Stitchup", 0)
    expected = (torch.logit(plain.probabilities.double()) / record.temperature).sigmoid()
    torch.testing.assert_close(scaled.probabilities.double(), expected, atol=1e-5, rtol=1e-4)


def test_an_ensemble_is_the_mean_of_its_members(folder: StudyFolder):
    members = [folder.read_logits("Ensemble", 0, f"members/final-{number}") for number in (0, 1)]
    assert not np.array_equal(*members)
    mean = torch.stack([torch.from_numpy(logits).float().sigmoid() for logits in members]).mean(0)
    torch.testing.assert_close(folder.predictions("Ensemble", 0).probabilities, mean, atol=1e-3, rtol=1e-3)
    # The first member is the base's own fit: the same seed, rows and values.
    np.testing.assert_array_equal(members[0], folder.read_logits("E-Stitchup", 0, "logits"))


class Exploding(pl.Callback):
    """Makes the loss infinite."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        batch.embeddings = batch.embeddings * torch.inf


def test_a_diverged_run_is_recorded_and_left_out(tmp_path: Path):
    class_path = f"{__name__}.Exploding"
    methods = {"Control": MethodConfig(), "Bad": MethodConfig([{"class_path": class_path}, STITCH, SOFTEN])}
    config = digits_config(trials=1, epochs=2, methods=methods)
    with pytest.warns(UserWarning, match="not finite|have diverged"):
        folder = run_study(config, StudyFolder(tmp_path))
    assert folder.record("Bad", 0).diverged
    assert set(folder.results()["method"].to_pylist()) == {"Control"}

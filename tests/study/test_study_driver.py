"""The protocol: who trains on which rows, what is chosen, and what is kept."""

from __future__ import annotations

import json
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pyarrow as pa
import pytest
import torch
from blobs import blobs_store
from scipy.special import expit, logit
from small import SOFTEN, STITCH, digits_config, scaled

from estitchup_pl.batch import NONE
from estitchup_pl.data import TrialSplit
from estitchup_pl.errors import ConfigError, SplitError
from estitchup_pl.functional import HEURISTICS, acceptance, fit_temperature, select_threshold
from estitchup_pl.stacking.rows import StackRows
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.study import SelectionConfig, StudyConfig, StudyFolder, fitting, run_study
from estitchup_pl.study.curve import CurveRows
from estitchup_pl.study.final import FinalFits
from estitchup_pl.study.stage import Job
from estitchup_pl.study.study import Study
from estitchup_pl.study.thresholds import Thresholds
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


def test_thresholds_are_those_of_the_pooled_validation_rows_of_all_threshold_splits(
    folder: StudyFolder, config: StudyConfig
):
    table = folder.trial(1).to_pandas()
    for method in config.methods:
        names, confidences, predicted, labels, rows = folder.record(method, 1).class_names, [], [], [], []
        held_out: set[str] = set()
        for repeat in range(config.repeats):
            part = table[f"threshold_part_{repeat}"]
            known, val = set(table["label"][part == "fit"]), table[part == "val"]
            logits = np.load(folder.run_path(method, 1) / f"threshold/{repeat}.npy").astype(np.float32)
            np.testing.assert_array_equal(np.isneginf(logits).all(0), [name not in known for name in names])
            assert np.isfinite(logits[:, [name in known for name in names]]).all()
            assert len(known) == 6  # two of eight are held out
            scores = folder.read_scores(method, 1, f"threshold/{repeat}_none_scores")
            confidences.append(expit(logits).max(1) if scores is None else (1 - scores.astype(float)).astype("f4"))
            predicted.append(logits.argmax(1))
            labels += [names.index(label) if label in known else NONE for label in val["label"]]
            held_out |= set(val["label"]) - known
            rows += val["row"].tolist()
        decided = [torch.from_numpy(np.concatenate(parts)) for parts in (confidences, predicted)]
        for heuristic in HEURISTICS:
            found = float(select_threshold(*decided, torch.tensor(labels), heuristic))
            assert folder.record(method, 1).thresholds[heuristic] == found
            interval = folder.record(method, 1).threshold_intervals[heuristic]
            assert interval["none_rows"] == labels.count(NONE)
            assert interval["none_classes"] == len(held_out)
            assert 0 <= interval["low"] <= interval["high"] <= 1
        kept = folder.threshold_predictions(method, 1)
        assert (kept.rows.tolist(), kept.labels.tolist()) == (rows, labels)
        np.testing.assert_allclose(acceptance(kept.probabilities, kept.none_scores), decided[0], rtol=1e-6)


def test_the_fits_of_threshold_splits_differ_in_their_rows_and_their_seed(folder: StudyFolder, tmp_path: Path):
    table = folder.trial(0).to_pandas()
    known = [set(table["label"][table[f"threshold_part_{repeat}"] == "fit"]) for repeat in (0, 1)]
    assert known[0] | known[1] == set(table["label"][table["part"] == "train"])  # none is held out twice
    study = Study(digits_config(), StudyFolder(tmp_path))
    seeds = {study.seed(Job(Thresholds(), "Control", 0, {}, 0, division)) for division in range(3)}
    assert len(seeds) == 3


def test_the_best_candidate_is_chosen_and_all_are_kept(folder: StudyFolder):
    record = folder.record("E-Stitchup", 0)
    assert {entry["alpha"] for entry in record.selection} == {0.2, 0.8}
    best = max(record.selection, key=lambda entry: entry["score"])
    assert record.chosen == {"alpha": best["alpha"]}
    assert folder.record("Control", 0).chosen == {}
    for derived in ("Ensemble", "Scaled", "Scaled ensemble"):
        assert folder.record(derived, 0).chosen == record.chosen


@pytest.mark.parametrize(("metric", "best"), [("ece", min), ("correlation", max), ("auroc", max)])
def test_a_candidate_is_the_best_by_what_its_metric_calls_better(metric: str, best, tmp_path: Path):
    study = Study(digits_config(selection=SelectionConfig(metric=metric)), StudyFolder(tmp_path))
    for number, score in enumerate((0.3, 0.6)):
        study.folder.write_note("E-Stitchup", 0, f"selection/{number}-0", {"score": score})
    assert study.chosen("E-Stitchup", 0) == {"alpha": {0.3: 0.2, 0.6: 0.8}[best(0.3, 0.6)]}


def test_no_fit_and_no_choice_sees_an_evaluation_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = digits_config(
        trials=1, selection=SelectionConfig(epochs=1, strategy="hierarchical_bootstrap", resamples=2), epochs=2
    )
    train = Trials(config).division(FinalFits(), 0).train
    fitted, gathered = [], []
    read, gather = StackRows.gather, Trials.gather

    def spy_on_rows(runs, device):
        stack = read(runs, device)
        for positions, count in zip(stack.positions, stack.count, strict=True):
            fitted.append(stack.embeddings[positions[:count]].numpy())
        return stack

    def spy_on_gather(self: Trials, rows: np.ndarray):
        gathered.append(rows)
        return gather(self, rows)

    monkeypatch.setattr(StackRows, "gather", spy_on_rows)
    monkeypatch.setattr(Trials, "gather", spy_on_gather)
    run_study(config, StudyFolder(tmp_path))
    assert len(fitted) == 2 * 2 + 2 * 2 + 2  # candidates times resamples, thresholds times repeats, final fits
    allowed = {row.tobytes() for row in Trials(config).store.gather(train)}
    assert all(row.tobytes() in allowed for rows in fitted for row in rows)
    assert all(np.isin(rows, train).all() for rows in gathered[: 2 * 2 + 2 * 2])  # scores, then thresholds


def test_methods_of_a_trial_begin_with_the_same_weights_and_fits_that_differ_in_their_number_do_not(tmp_path: Path):
    study = Study(digits_config(), StudyFolder(tmp_path))
    jobs = [
        Job(stage, method, trial, {}, number)
        for method in ("Control", "E-Stitchup")
        for stage in (Thresholds(), FinalFits())
        for trial in (0, 1)
        for number in (0, 1)
    ]
    seeds = [study.seed(job) for job in jobs]
    assert seeds[:8] == seeds[8:]
    assert len(set(seeds)) == 8


def test_temperature_is_fitted_on_known_validation_rows_of_its_base(folder: StudyFolder):
    for name, base in (("Scaled", "E-Stitchup"), ("Scaled ensemble", "Ensemble")):
        kept = [folder.read_logits(base, 0, f"threshold/{repeat}") for repeat in (0, 1)]
        logits = torch.from_numpy(np.concatenate(kept)).float().clamp(min=-1e6)  # held out: minus infinity
        labels = folder.threshold_predictions(base, 0).labels
        temperature = folder.record(name, 0).parameters["calibrator.temperature"]
        expected = fit_temperature(logits[labels != NONE], labels[labels != NONE])
        assert temperature == pytest.approx(expected, rel=1e-6)
        assert temperature != 1
        scaled, plain = (folder.predictions(method, 0).probabilities.double().numpy() for method in (name, base))
        np.testing.assert_allclose(scaled, expit(logit(plain) / temperature), atol=2e-3)
    assert folder.record("E-Stitchup", 0).parameters == {}


def test_an_ensemble_is_the_mean_of_its_bases_own_fit_and_others_with_other_seeds(folder: StudyFolder):
    names = ["logits", "members/1/logits", "members/2/logits"]
    members = [expit(folder.read_logits("E-Stitchup", 0, name).astype(np.float64)) for name in names]
    assert len({member.tobytes() for member in members}) == 3
    mean = folder.predictions("Ensemble", 0).probabilities.numpy()
    np.testing.assert_allclose(mean, np.mean(members, axis=0), atol=1e-3)
    assert not (folder.run_path("Ensemble", 0) / "members").exists()


def test_fits_are_stacked_by_as_many_as_were_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stacks, original = [], fitting.fit_runs

    def spy(runs, max_epochs, **options):
        stacks.append((len(runs), options["stack_size"]))
        return original(runs, max_epochs, **options)

    monkeypatch.setattr(fitting, "fit_runs", spy)
    run_study(digits_config(trials=1, epochs=1, stack_size=3), StudyFolder(tmp_path))
    # Two candidates, two methods in two repeats, and two final fits.
    assert stacks == [(2, 3), (3, 3), (1, 3), (2, 3)]


class Exploding(pl.Callback):
    """Makes the loss infinite."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        batch.embeddings = batch.embeddings * torch.inf


def test_a_diverged_run_is_recorded_and_left_out(tmp_path: Path):
    exploding = {"class_path": f"{__name__}.Exploding"}
    methods = {
        "Control": {},
        "Bad": {"callbacks": [exploding, STITCH, SOFTEN]},
        "Bad, scaled": scaled("Bad"),
    }
    config = digits_config(trials=1, epochs=2, methods=methods)
    with pytest.warns(UserWarning, match="not finite|have diverged"):
        folder = run_study(config, StudyFolder(tmp_path))
    assert folder.record("Bad", 0).diverged
    assert folder.record("Bad, scaled", 0).diverged
    assert set(folder.results()["method"].to_pylist()) == {"Control"}


def test_a_study_shorter_than_the_steps_of_its_curve_has_one_point_at_its_end(tmp_path: Path):
    config = digits_config(trials=1, epochs=2, curve_every=12, methods={"Control": {}})
    folder = run_study(config, StudyFolder(tmp_path))
    assert folder.curve("Control", 0)["epoch"].to_pylist() == [2]


def test_the_curve_is_measured_on_a_random_sample_of_the_known_rows(monkeypatch: pytest.MonkeyPatch):
    trials = Trials(digits_config())
    division = trials.division(FinalFits(), 0)
    gathered = []
    monkeypatch.setattr("estitchup_pl.study.trials.KNOWN_ROWS", 100)
    monkeypatch.setattr(trials, "gather", lambda rows: gathered.append(rows))
    rows = trials.curve_rows(FinalFits(), 0)
    is_none = trials.labels.index(division.class_names)[gathered[0]] == NONE
    np.testing.assert_array_equal(rows.labels == NONE, is_none)
    np.testing.assert_array_equal(gathered[0][is_none], np.setdiff1d(division.evaluated, division.known))
    assert rows.none_share == pytest.approx(1 - len(division.known) / len(division.evaluated))
    positions = np.searchsorted(division.known, gathered[0][~is_none])
    assert len(set(positions)) == 100
    assert len(division.known) / 4 < np.median(positions) < 3 * len(division.known) / 4  # they come from all over


def test_the_rows_of_a_curve_go_to_a_device_once():
    rows = CurveRows({"pixels": np.ones((3, 2), np.float16)}, torch.zeros(3, dtype=torch.int64), 0.5)
    embeddings, labels = rows.on(torch.device("meta"))
    assert embeddings["pixels"].is_meta
    assert labels.is_meta
    assert rows.on(torch.device("meta"))[0]["pixels"] is embeddings["pixels"]
    assert not rows.on(torch.device("cpu"))[1].is_meta


def column_store(path: Path) -> str:
    """Write blobs with a column that says which rows validate and test."""
    source = blobs_store(400)
    parts = np.random.default_rng(0).choice(["train", "train", "Validation", "test"], len(source)).tolist()
    embeddings = {name: source.gather(np.arange(len(source)), [name]) for name in source.modalities}
    EmbeddingStore.create(path, source.items.append_column("split", pa.array(parts)), embeddings)
    return str(path)


def test_a_column_splits_a_study_and_none_of_its_test_rows_is_trained_on(tmp_path: Path):
    config = digits_config(store=column_store(tmp_path / "store"), split={"class_path": "ColumnSplit"})
    folder = run_study(config, StudyFolder(tmp_path / "study"))
    parts = [part and part.lower() for part in EmbeddingStore.open(config.store).column("split").to_pylist()]
    for trial in range(2):
        table = folder.trial(trial).to_pylist()
        for row in table:
            expected = {"train": "train", "test": "test", "validation": None}[parts[row["row"]]]
            assert row["part"] == expected
            assert (row["threshold_part_1"] is not None) <= (expected == "train")
        assert any(row["threshold_part_1"] == "val" for row in table)
    first, second = (folder.predictions("Control", trial) for trial in (0, 1))
    np.testing.assert_array_equal(first.rows, second.rows)
    assert not torch.equal(first.probabilities, second.probabilities)  # their seeds differ


class Overlapping(TrialSplit):
    """Trains on a row that it tests on."""

    def assign(self, store, labels):
        split = super().assign(store, labels)
        split.train[0] = split.test[0]
        return split


class Restless(TrialSplit):
    """Gives other rows each time it is made."""

    made = 0

    def __post_init__(self) -> None:
        Restless.made += 1
        self.trial = Restless.made


def test_a_split_that_trains_on_a_test_row_is_refused(tmp_path: Path):
    config = digits_config(split={"class_path": f"{__name__}.Overlapping"})
    with pytest.raises(SplitError, match="Overlapping: 1 rows train and are evaluated, the first is row"):
        run_study(config, StudyFolder(tmp_path))


def test_rows_that_changed_since_the_runs_were_made_are_refused(tmp_path: Path):
    config = digits_config(split={"class_path": f"{__name__}.Restless"}, trials=1, methods={"Control": {}}, epochs=1)
    run_study(config, StudyFolder(tmp_path))
    with pytest.raises(ConfigError, match="rows of trial 0 are not those of the runs"):
        run_study(config, StudyFolder(tmp_path))


def test_the_header_says_which_metrics_there_are_and_which_way_is_better(folder: StudyFolder):
    metrics = json.loads((folder.path / "study.json").read_text())["metrics"]
    assert (metrics["aupr"], metrics["ece"], metrics["accuracy_none"]) == (True, False, True)
    names = {name.partition("/")[0] for name in folder.results()["metric"].to_pylist()}
    assert names - set(metrics) == {"threshold", "train_rows", "none_rows", "epochs_to_convergence"}

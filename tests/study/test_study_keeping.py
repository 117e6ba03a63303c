"""A study keeps classifiers: they decide as its own logits say, and the best is chosen by validation rows alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import oracles
import pytest
import torch
from small import SPLIT, STITCH, digits_config, method

from estitchup_pl.batch import NONE
from estitchup_pl.data import EmbeddingDataModule, digits_store
from estitchup_pl.data.trained_rows import build_split, refuse_trained_rows
from estitchup_pl.errors import ConfigError
from estitchup_pl.model import EmbeddingClassifier, read_checkpoint
from estitchup_pl.store import sealed
from estitchup_pl.study import Candidate, StudyConfig, StudyFolder, run_study
from estitchup_pl.study.choosing import best_of_equals

SUM = {"calibrator": method("Temperature"), "score": method("SumOfScores")}
METHODS = {
    "Control": {},
    "E-Stitchup": {"callbacks": [STITCH], "grid": {"alpha": [0.2, 0.8]}},
    "LDA": method("HeadMethod", solver={"class_path": "LDA"}, scaling="centered_l2"),
    "Sum": method("Decided", base="Control", **SUM),
    "Sum, l2": method("Decided", base="Control", **SUM, scaling="l2"),
    "Twice, l2": method("Decided", base="Twice", **SUM, scaling="l2"),
    "Unlike, centred": method("Decided", base="Unlike", **SUM, scaling="centered_l2"),
    "Twice": method("Ensemble", base="Control", size=2),
    "Unlike, sum": method("Decided", base="Unlike", **SUM),
    "Unlike": method("Ensemble", base=["LDA", "E-Stitchup"]),
    "Chosen": method("Chosen", methods=["Control", "E-Stitchup", "LDA", "Sum", "Twice"], average=1),
    "Averaged": method("Chosen", methods=["LDA", "Control"], average=2),
    "Nearest": method("EstimatorMethod", estimator={"class_path": "sklearn.neighbors.KNeighborsClassifier"}),
}
WITHOUT_CHOICE = {name: given for name, given in METHODS.items() if given.get("class_path") != "Chosen"}


def config_of(methods: dict[str, dict[str, object]], **given: object) -> StudyConfig:
    return digits_config(methods=methods, **given)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return run_study(config_of(METHODS, keep="all"), StudyFolder(tmp_path_factory.mktemp("kept")))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A study without a choice, which keeps nothing."""
    config = config_of(WITHOUT_CHOICE, keep="none", trials=1)
    return run_study(config, StudyFolder(tmp_path_factory.mktemp("plain")))


def answers(path: Path, folder: StudyFolder, name: str, trial: int) -> None:
    """A checkpoint decides the test rows of a trial as the logits that the study keeps say."""
    model, store = EmbeddingClassifier.load_from_checkpoint(path), digits_store()
    expected, record = folder.predictions(name, trial), folder.record(name, trial)
    given = model.predict({part: store.gather(expected.rows, [part]) for part in model.modalities})
    confidence = expected.probabilities.amax(1)
    torch.testing.assert_close(given.confidence, confidence, atol=3e-3, rtol=0)
    scores = 1 - confidence if expected.none_scores is None else expected.none_scores
    torch.testing.assert_close(given.none_scores.float(), scores, atol=3e-3, rtol=0)
    assert model.class_names == expected.class_names
    assert model.threshold == pytest.approx(record.thresholds["intersection"], abs=1e-6)
    assert model.decision.basis is not None
    assert model.decision.basis.none_rows == record.threshold_intervals["intersection"]["none_rows"]


@pytest.mark.parametrize("trial", [0, 1])
@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("Averaged", "Nearest")])
def test_each_classifier_that_is_kept_decides_as_the_studys_logits_say(name: str, trial: int, kept: StudyFolder):
    answers(kept.model_path(name, trial), kept, name, trial)


def test_what_no_classifier_can_be_is_left_out_and_the_reason_is_kept(kept: StudyFolder):
    best = kept.read_best()
    assert best is not None
    assert set(best["refused"]) >= {"Nearest"}
    assert "no checkpoint can be made" in best["refused"]["Nearest"]
    assert not kept.model_path("Nearest", 0).exists()
    assert best["method"] == "Chosen"
    assert best["made_of"] == kept.record("Chosen", 0).parameters["chosen"]
    answers(kept.best_path, kept, "Chosen", 0)


def test_a_kept_classifier_knows_its_trial_so_that_it_is_tested_on_rows_that_it_has_not_seen(kept: StudyFolder):
    for name in ("E-Stitchup", "LDA", "Unlike, sum"):
        trained_on = read_checkpoint(kept.model_path(name, 1))["trained_on"]
        assert trained_on["split"]["init_args"] == {"trial": 1, "group": None, **SPLIT}
        model = EmbeddingClassifier.load_from_checkpoint(kept.model_path(name, 1))
        assert len(trained_on["digests"]) == kept.record(name, 1).train_rows
        data = EmbeddingDataModule("digits")
        rows = kept.predictions(name, 1).rows
        assert model.trained_on is not None
        split = build_split(model.trained_on.split).assign(data.store, data.labels)
        assert split.test.tolist() == rows.tolist()
        refuse_trained_rows(data.store, split.test, model.trained_on, "test")


def measured(folder: StudyFolder, name: str) -> Candidate:
    """AUPR and calibration error on the threshold splits of trial 0, by another library."""
    predictions, table = folder.threshold_predictions(name, 0), folder.trial(0)
    splits, start = [], 0
    for split in (0, 1):
        end = start + sum(part == "val" for part in table[f"threshold_part_{split}"].to_pylist())
        splits.append((predictions.probabilities[start:end].numpy(), predictions.labels[start:end].numpy()))
        start = end
    auprs = tuple(oracles.weighted_auroc_aupr(*split)[1] for split in splits)
    return Candidate(name, auprs, tuple(ece_of_known(*split) for split in splits))


def ece_of_known(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    known = labels != NONE
    confidence, correct = probabilities.max(1)[known], (probabilities.argmax(1) == labels)[known]
    return oracles.expected_calibration_error(confidence, correct)


def test_the_best_without_a_choice_has_the_best_target_on_validation_rows(plain: StudyFolder, tmp_path: Path):
    folder = StudyFolder(tmp_path / "study")
    shutil.copytree(plain.path, folder.path)
    run_study(config_of(WITHOUT_CHOICE, keep="best", trials=1), folder)
    best = folder.read_best()
    assert best is not None
    possible = [measured(folder, name) for name in WITHOUT_CHOICE if name != "Nearest"]
    expected = best_of_equals(sorted(possible, key=lambda one: -one.score))
    assert best["method"] == expected.name
    assert best["score"] == pytest.approx(expected.score, abs=1e-5)
    answers(folder.best_path, folder, expected.name, 0)
    kept = {path.parent.parent.name for path in folder.path.rglob("fit-*.ckpt")}
    assert len(kept) < 3, "classifiers are kept that nobody asked for"
    assert not list(folder.path.rglob("model.ckpt"))


def test_a_study_that_is_resumed_to_keep_its_best_fits_only_that_again(plain: StudyFolder, tmp_path: Path):
    folder = StudyFolder(tmp_path / "study")
    shutil.copytree(plain.path, folder.path)
    assert folder.read_best() is None
    assert not list(folder.path.rglob("*.ckpt"))
    before = {path: path.read_bytes() for path in folder.path.rglob("*.npy")}
    told: list[tuple[str, int]] = []

    def report(stage: object, fits: int, epochs: int) -> object:
        told.append((type(stage).__name__, fits))
        return lambda passed: None

    config = config_of(WITHOUT_CHOICE, keep="best", trials=1)
    run_study(config, folder, report)  # type: ignore[arg-type]
    assert told == [("FinalFits", len(list(folder.path.rglob("fit-*.ckpt"))))]
    assert {path: path.read_bytes() for path in folder.path.rglob("*.npy")} == before
    told.clear()
    run_study(config, folder, report)  # type: ignore[arg-type]
    assert told == []


def test_what_proves_to_be_no_classifier_gives_way_to_the_next_best(tmp_path: Path):
    scaled = {name: method("Decided", base=name, calibrator=method("Temperature")) for name in ("LDA", "Control")}
    methods = {
        "Control": {},
        "LDA": METHODS["LDA"],
        **{f"{name}, scaled": given for name, given in scaled.items()},
        "Mean": method("Ensemble", base=["LDA, scaled", "Control, scaled"]),
        "Chosen": method("Chosen", methods=["Mean"], average=1),
    }
    folder = run_study(config_of(methods, trials=1), StudyFolder(tmp_path / "study"))
    best = folder.read_best()
    assert best is not None
    assert "calibrates once" in best["refused"]["Chosen"]
    assert best["method"] in ("Control", "LDA", *(f"{name}, scaled" for name in scaled))
    answers(folder.best_path, folder, best["method"], 0)


def test_no_test_row_has_a_part_in_what_is_best(plain: StudyFolder, tmp_path: Path):
    config, found = config_of(WITHOUT_CHOICE, keep="best", trials=1), []
    for turned in (False, True):
        folder = StudyFolder(tmp_path / str(turned))
        shutil.copytree(plain.path, folder.path)
        for path in folder.path.rglob("logits.npy") if turned else ():
            sealed.write_array(path, -sealed.read_array(path))
        run_study(config, folder)
        found.append(folder.read_best())
    assert found[0] == found[1]


def test_a_wrong_word_is_told_and_so_is_a_target_before_any_fit(tmp_path: Path):
    with pytest.raises(ConfigError, match="keep: expected one of best, all, none, got 'most'"):
        config_of({"Control": {}}, keep="most")
    config = config_of({"Control": {}})
    config.selection.metric = "auprr"
    with pytest.raises(ConfigError, match="did you mean 'aupr'"):
        run_study(config, StudyFolder(tmp_path / "study"))
    assert not (tmp_path / "study" / "runs").exists()

"""A study leads to a model: the checkpoint of a refit decides as the study itself did with fits on the same rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from small import STITCH, digits_config, method

from estitchup_pl.data import EmbeddingDataModule, TrialSplit, digits_store
from estitchup_pl.errors import ConfigError
from estitchup_pl.functional import nonconformity
from estitchup_pl.model import EmbeddingClassifier, read_checkpoint
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.labels import StoreLabels
from estitchup_pl.study import StudyConfig, StudyFolder, refit, run_study

LDA = {"solver": {"class_path": "LDA"}, "scaling": "centered_l2"}
BASES = ["Control", "E-Stitchup", "LDA", "Sum", "Twice", "Unlike", "Unlike, sum"]
METHODS = {
    "Control": {},
    "E-Stitchup": {"callbacks": [STITCH], "grid": {"alpha": [0.2, 0.8]}},
    "LDA": method("HeadMethod", **LDA),
    "Sum": method("Decided", base="Control", calibrator=method("Temperature"), score=method("SumOfScores")),
    "Twice": method("Ensemble", base="Control", size=2),
    "Unlike": method("Ensemble", base=["LDA", "E-Stitchup"]),
    "Unlike, sum": method("Decided", base="Unlike", calibrator=method("Temperature"), score=method("SumOfScores")),
    "Chosen": method("Chosen", methods=BASES, average=1),
}


def options(store: str) -> StudyConfig:
    return digits_config(store=store, methods=METHODS, trials=1)


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return run_study(options("digits"), StudyFolder(tmp_path_factory.mktemp("studied")))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, studied: StudyFolder) -> StudyConfig:
    """The same study of a store in which only the training rows of the first have a label."""
    trial, store = studied.trial(0), digits_store()
    train = set(trial.filter(pa.compute.equal(trial["part"], "train"))["row"].to_pylist())
    labels = [label if row in train else None for row, label in enumerate(store.column("label").to_pylist())]
    items = pa.table({"id": store.column("id"), "label": pa.array(labels, pa.string())})
    path = tmp_path_factory.mktemp("labelled") / "store"
    EmbeddingStore.create(path, items, {name: store.gather(np.arange(len(store)), [name]) for name in store.modalities})
    return options(str(path))


@pytest.mark.parametrize("name", METHODS)
def test_a_refit_decides_as_the_studys_own_fit_on_these_rows_did(
    name: str, studied: StudyFolder, labelled: StudyConfig, tmp_path: Path
) -> None:
    made = refit(labelled, StudyFolder(tmp_path / "work"), name, tmp_path / "model.ckpt")
    model = EmbeddingClassifier.load_from_checkpoint(tmp_path / "model.ckpt")
    expected, record = studied.predictions(name, 0), studied.record(name, 0)
    store = digits_store()
    answers = model.predict({part: store.gather(expected.rows, [part]) for part in model.modalities})
    torch.testing.assert_close(answers.confidence, expected.probabilities.amax(1), atol=3e-3, rtol=0)
    paper = 1 - expected.probabilities.amax(1)
    scores = paper if expected.none_scores is None else expected.none_scores
    torch.testing.assert_close(answers.none_scores.float(), scores, atol=3e-3, rtol=0)
    assert model.threshold == pytest.approx(record.thresholds["intersection"], abs=2e-3)
    assert list(model.class_names) == list(expected.class_names)
    assert made.made_of == record.parameters.get("chosen", name)
    assert made.values == record.chosen or name == "Chosen"
    basis = model.decision.basis
    threshold_rows = studied.threshold_predictions(name, 0)
    validated = threshold_rows.labels
    unlikely = nonconformity(threshold_rows.probabilities, validated)
    torch.testing.assert_close(model.decision.unlikely, unlikely, atol=3e-3, rtol=0)
    assert basis is not None
    assert (basis.none_rows, basis.known_rows) == (int((validated == -1).sum()), int((validated != -1).sum()))
    kept = model.decision.expectation
    assert kept is not None
    assert torch.equal(kept.known, validated != -1)
    torch.testing.assert_close(kept.confidence, threshold_rows.probabilities.amax(dim=1).float(), atol=3e-3, rtol=0)
    sure = (1 - kept.none_scores - model.threshold).abs() > 1e-3
    assert torch.equal((kept.predicted == -1)[sure], (1 - kept.none_scores <= model.threshold)[sure])
    assert 0 < int((kept.predicted == -1).sum()) < len(validated)
    assert basis.low is not None
    assert basis.high is not None
    assert basis.low <= model.threshold <= basis.high


def test_a_refit_goes_on_and_knows_all_its_rows(labelled: StudyConfig, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "work")
    first = refit(labelled, folder, "Unlike, sum", tmp_path / "model.ckpt")
    fits = sorted(folder.path.rglob("fit-*.ckpt"))
    before = [path.stat().st_mtime_ns for path in fits]
    told: list[str] = []

    def report(stage: object, count: int, epochs: int) -> object:
        told.append(str(stage))
        return lambda passed: None

    again = refit(labelled, folder, "Unlike, sum", tmp_path / "again.ckpt", report=report)  # type: ignore[arg-type]
    assert told == []
    assert [path.stat().st_mtime_ns for path in fits] == before
    assert again.model.threshold == first.model.threshold
    store = EmbeddingStore.open(labelled.store)
    rows = StoreLabels.read(store).labelled
    assert first.rows == len(rows)
    assert len(read_checkpoint(tmp_path / "again.ckpt")["trained_on"]["digests"]) == len(rows)
    data = EmbeddingDataModule(store, TrialSplit(), predict_rows="unlabelled")
    assert len(data.labels.unlabelled) == len(store) - len(rows)


def test_what_is_no_classifier_is_refused_before_any_fit(labelled: StudyConfig, tmp_path: Path) -> None:
    forest = method("EstimatorMethod", estimator={"class_path": "sklearn.ensemble.RandomForestClassifier"})
    calibrated = method("Decided", base="Forest", calibrator=method("Temperature"))
    config = digits_config(store=labelled.store, methods={"Forest": forest, "Scaled": calibrated}, trials=1)
    for name in ("Forest", "Scaled"):
        with pytest.raises(ConfigError, match="no checkpoint can be made of it"):
            refit(config, StudyFolder(tmp_path / "work"), name, tmp_path / "model.ckpt")
    assert not (tmp_path / "work").exists()
    with pytest.raises(ConfigError, match="did you mean 'Forest'"):
        refit(config, StudyFolder(tmp_path / "work"), "Forst", tmp_path / "model.ckpt")


def test_calibrated_members_and_averages_of_choices_are_told(labelled: StudyConfig, tmp_path: Path) -> None:
    scaled = {name: method("Decided", base=name, calibrator=method("Temperature")) for name in ("LDA", "Control")}
    bases = {f"{name}, scaled": given for name, given in scaled.items()}
    several = {"Mean": method("Ensemble", base=list(bases))}
    heads = {name: METHODS[name] for name in ("LDA", "Control")}
    config = digits_config(store=labelled.store, methods={**heads, **bases, **several}, trials=1)
    with pytest.raises(ConfigError, match="calibrates once"):
        refit(config, StudyFolder(tmp_path / "work"), "Mean", tmp_path / "model.ckpt")

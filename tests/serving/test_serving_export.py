"""A classifier decides the same as an ONNX graph, as a folder of safetensors, and in this package."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_models import (
    CLASSES,
    EVERY_CALIBRATOR,
    EVERY_SCORE,
    MODALITIES,
    a_part_of_each,
    ensemble,
    fitted,
    rows,
    score_named,
)
from torch import Tensor, nn

from estitchup_pl import EmbeddingClassifier, EmbeddingMLP
from estitchup_pl.batch import NONE
from estitchup_pl.errors import CheckpointError, ConfigError, WriteError
from estitchup_pl.model import calibrators
from estitchup_pl.model.saving import described
from estitchup_pl.serving import Deployed, export_onnx, from_pretrained, save_pretrained


@pytest.mark.parametrize("score", [None, *EVERY_SCORE])
@pytest.mark.parametrize("calibrator", [None, *EVERY_CALIBRATOR])
def test_what_is_deployed_decides_as_the_model(score: str | None, calibrator: str | None) -> None:
    model = fitted(score_named(score) if score else None, getattr(calibrators, calibrator)() if calibrator else None)
    queries = rows(50, 1)
    with torch.no_grad():
        found = Deployed(model)(*queries.split(list(MODALITIES.values()), dim=1))
        scaled = model.scale(queries)
        expected = model.decision(scaled, model(scaled))
    assert torch.equal(found.predicted, expected.predicted)
    assert torch.equal(found.probabilities, expected.probabilities)
    torch.testing.assert_close(found.none_scores, expected.none_scores.float())
    assert 0 < int((found.predicted == NONE).sum()) < 50


@pytest.mark.parametrize("number", range(6))
def test_onnxruntime_decides_as_the_model_on_any_number_of_rows(tmp_path: Path, number: int) -> None:
    runtime = pytest.importorskip("onnxruntime")
    model = a_part_of_each()[number]
    export_onnx(model, tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    for count in (1, 2500):
        queries = rows(count, 2)
        parts = dict(zip(MODALITIES, queries.split(list(MODALITIES.values()), dim=1), strict=True))
        probabilities, none_scores, predicted = session.run(None, {name: part.numpy() for name, part in parts.items()})
        with torch.no_grad():
            expected = Deployed(model)(*parts.values())
        np.testing.assert_allclose(probabilities, expected.probabilities, atol=1e-5)
        np.testing.assert_allclose(none_scores, expected.none_scores, atol=1e-5)
        close = np.abs(1 - none_scores - model.threshold) < 1e-5
        assert ((predicted == expected.predicted.numpy()) | close).all()
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["class_names"]) == CLASSES
    assert json.loads(facts["modalities"]) == MODALITIES
    assert float(facts["threshold"]) == pytest.approx(model.threshold)


@pytest.mark.parametrize("number", range(3))
def test_a_folder_of_safetensors_decides_as_the_model(tmp_path: Path, number: int) -> None:
    model = a_part_of_each()[number]
    save_pretrained(model, tmp_path / "model", {"none_auroc": 0.93})
    loaded = from_pretrained(tmp_path / "model")
    parts = dict(zip(MODALITIES, rows(40, 3).split(list(MODALITIES.values()), dim=1), strict=True))
    found, expected = loaded.predict(parts), model.predict(parts)
    assert found.predicted == expected.predicted
    assert torch.equal(found.confidence, expected.confidence)
    assert torch.equal(found.none_scores, expected.none_scores)
    assert loaded.decision.basis == model.decision.basis
    assert torch.equal(loaded.decision.sets(found.probabilities), model.decision.sets(expected.probabilities))
    assert not loaded.training
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| none_auroc | 0.9300 |" in card
    assert '30 "none" rows' in card


def test_an_ensemble_is_deployed_with_what_its_members_say() -> None:
    model, queries = ensemble(), rows(50, 1)
    with torch.no_grad():
        found = Deployed(model)(*queries.split(list(MODALITIES.values()), dim=1))
        expected = model.predict(dict(zip(MODALITIES, queries.split(list(MODALITIES.values()), dim=1), strict=True)))
    assert [(*CLASSES, "none")[code] for code in found.predicted.tolist()] == expected.predicted
    torch.testing.assert_close(found.none_scores, expected.none_scores.float())
    assert 0 < expected.predicted.count("none") < 50


def test_a_forward_of_ones_own_is_not_left_out_in_silence() -> None:
    class Doubled(EmbeddingClassifier):
        def forward(self, scaled: Tensor) -> Tensor:
            return 2 * super().forward(scaled)

    model = Doubled(class_names=CLASSES, modalities=MODALITIES)
    model.configure_model()
    with pytest.raises(ConfigError, match="Doubled has a forward of its own"):
        Deployed(model)


def test_what_cannot_be_exported_is_named(tmp_path: Path) -> None:
    class Branching(nn.Linear):
        def forward(self, scaled: Tensor) -> Tensor:
            return super().forward(scaled) if float(scaled.sum()) > 1 else super().forward(-scaled)

    model = EmbeddingClassifier(Branching, class_names=CLASSES, modalities=MODALITIES)
    model.configure_model()
    with pytest.raises(ConfigError, match=r"Branching cannot be written as ONNX.*--out FOLDER.*estitchup serve"):
        export_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_damaged_folder_is_told(tmp_path: Path) -> None:
    save_pretrained(fitted(), tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        from_pretrained(tmp_path)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        from_pretrained(tmp_path)


def test_a_model_of_a_command_comes_back(tmp_path: Path) -> None:
    network = {"class_path": "estitchup_pl.EmbeddingMLP", "init_args": {"hidden": [5]}}
    model = EmbeddingClassifier(network=partial(EmbeddingMLP, hidden=(5,)), class_names=CLASSES, modalities=MODALITIES)
    model.configure_model()
    described(model, {"class_path": "estitchup_pl.EmbeddingClassifier", "init_args": {"network": network}})
    save_pretrained(model.eval(), tmp_path)
    again = from_pretrained(tmp_path)
    queries = dict(zip(MODALITIES, rows(7, 1).split(list(MODALITIES.values()), dim=1), strict=True))
    torch.testing.assert_close(again.predict_proba(queries), model.predict_proba(queries), rtol=0, atol=0)


def test_a_folder_imports_nothing_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_module.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(str(tmp_path))
    model = fitted()
    model.hparams["network"] = {"class_path": "evil_module.Net"}
    model.hparams["_instantiator"] = "evil_module.make"
    save_pretrained(model, tmp_path / "folder")
    with pytest.raises(CheckpointError, match="nothing is imported on a checkpoint's word"):
        from_pretrained(tmp_path / "folder")


def test_a_changed_bit_of_a_folder_is_told(tmp_path: Path) -> None:
    save_pretrained(fitted(), tmp_path)
    for name in ("model.safetensors", "config.json"):
        kept = (tmp_path / name).read_bytes()
        at = kept.index(b"threshold") + 13 if name == "config.json" else len(kept) - 3
        (tmp_path / name).write_bytes(kept[:at] + bytes([kept[at] ^ 1]) + kept[at + 1 :])
        with pytest.raises(CheckpointError, match="damaged"):
            from_pretrained(tmp_path)
        (tmp_path / name).write_bytes(kept)
    from_pretrained(tmp_path)


def test_weights_of_one_export_are_not_taken_with_the_threshold_of_another(tmp_path: Path) -> None:
    model = fitted()
    save_pretrained(model, tmp_path / "older")
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    save_pretrained(model, tmp_path / "newer")
    shutil.copy(tmp_path / "newer/model.safetensors", tmp_path / "older")  # as a kill between the two files leaves it
    with pytest.raises(CheckpointError, match=r"not the one that config\.json was written with: export again"):
        from_pretrained(tmp_path / "older")


@pytest.mark.parametrize("write", [save_pretrained, export_onnx])
def test_a_full_disk_is_told(write: Any, tmp_path: Path, file_limit: Any) -> None:
    model = fitted()
    with file_limit(100), pytest.raises(WriteError, match="cannot be written"):
        write(model, tmp_path / "exported")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = fitted()
    with torch.no_grad():
        next(model.network.parameters()).fill_(torch.nan)  # type: ignore[union-attr]
    save_pretrained(model, tmp_path)
    with pytest.raises(CheckpointError, match="not finite"):
        from_pretrained(tmp_path)


def test_a_classifier_without_a_network_cannot_be_deployed(tmp_path: Path) -> None:
    for write in (save_pretrained, export_onnx):
        with pytest.raises(ConfigError, match="no network yet"):
            write(EmbeddingClassifier(class_names=CLASSES, modalities=MODALITIES), tmp_path / "x")

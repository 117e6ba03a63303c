"""Nothing is imported on a checkpoint's word."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from training import data, trainer

from estitchup_pl import EmbeddingClassifier
from estitchup_pl.errors import CheckpointError
from estitchup_pl.model.checkpoint_io import seal
from estitchup_pl.model.checkpoints import read_checkpoint
from estitchup_pl.model.named_classes import named_class, only_known_classes


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module on the path that leaves a trace when it is imported."""
    trace = tmp_path / "ran"
    (tmp_path / "evil_module.py").write_text(
        f"open({str(trace)!r}, 'w').close()\nimport torch\nclass Net(torch.nn.Linear): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return trace


@pytest.mark.parametrize("path", ["torch.nn.Linear", "torch.optim.AdamW", "estitchup_pl.EmbeddingMLP"])
def test_classes_that_are_at_hand_are_found(path: str) -> None:
    assert named_class(path).__name__ == path.rpartition(".")[2]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("evil_module.Net", "nothing is imported on a checkpoint's word"),
        ("os.system", "no class of a network"),
        ("subprocess.Popen", "no class of a network"),
        ("torch.hub.load", "no class of a network"),
        ("Net", "nothing is imported"),
        ("", "nothing is imported"),
        ("estitchup_pl.model.Perceptron", "which this version does not have"),
        ("estitchup_pl.nowhere.Perceptron", "which this version does not have"),
        ("estitchup_pl.errors.DataError", "no class of a network"),
    ],
)
def test_others_are_refused_and_not_imported(evil: Path, path: str, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        named_class(path)
    assert not evil.exists()


@pytest.mark.parametrize(
    "hparams",
    [
        {"network": {"class_path": "evil_module.Net"}},
        {"network": "evil_module.Net"},
        {"_class_path": "evil_module.Net"},
        {"more_metrics": {"m": "evil_module.Net"}},
        {"deep": [{"x": {"class_path": "evil_module.Net", "init_args": {}}}]},
        {"network": {"class_path": "torch.nn.Linear", "init_args": {"x": {"class_path": "evil_module.Net"}}}},
        {"loss": "os.abort"},
    ],
)
def test_every_place_that_can_hold_a_class_is_checked(evil: Path, hparams: dict[str, object]) -> None:
    with pytest.raises(CheckpointError), only_known_classes(hparams):
        pytest.fail("let through")
    assert not evil.exists()


def test_a_name_in_an_option_of_any_type_is_not_imported_either(evil: Path) -> None:
    with only_known_classes({"teacher": "evil_module.Net", "words": "words.txt"}), pytest.raises(ImportError):
        __import__("evil_module")
    assert not evil.exists()
    assert "evil_module" not in sys.modules
    __import__("evil_module")
    del sys.modules["evil_module"]
    assert evil.exists()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fit")
    run = trainer(folder, epochs=1)
    run.fit(EmbeddingClassifier(), data())
    run.save_checkpoint(folder / "whole.ckpt")
    return folder / "whole.ckpt"


def changed(checkpoint: Path, to: Path, **hparams: object) -> Path:
    """A copy with other hyperparameters, sealed anew."""
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"] |= hparams
    seal(content)
    torch.save(content, to)
    return to


def test_loading_a_checkpoint_imports_nothing_that_it_names(evil: Path, tmp_path: Path, checkpoint: Path) -> None:
    for part in ({"class_path": "evil_module.Net"}, "evil_module.Net"):
        named = {"_instantiator": "lightning.pytorch.cli.instantiate_module", "network": part}
        path = changed(checkpoint, tmp_path / "evil.ckpt", **named)
        with pytest.raises(CheckpointError, match=r"names the class evil_module\.Net"):
            EmbeddingClassifier.load_from_checkpoint(path)
    assert not evil.exists()


def test_a_hyperparameter_of_another_version_is_said(tmp_path: Path, checkpoint: Path) -> None:
    deeper = {"class_path": "estitchup_pl.EmbeddingMLP", "init_args": {"depth": 3}}
    named = {"_instantiator": "lightning.pytorch.cli.instantiate_module", "network": deeper}
    path = changed(checkpoint, tmp_path / "newer.ckpt", **named)
    with pytest.raises(CheckpointError, match=r"newer\.ckpt: its hyperparameters do not fit .*depth"):
        EmbeddingClassifier.load_from_checkpoint(path)


def test_a_foreign_file_is_told_without_the_advice_to_load_it_all_the_same(tmp_path: Path) -> None:
    torch.save({"state_dict": Path("x")}, tmp_path / "objects.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    torch.save([1, 2], tmp_path / "list.ckpt")
    torch.save({"hyper_parameters": [1], "state_dict": {}}, tmp_path / "odd.ckpt")
    for name in ("objects", "text", "list", "odd"):
        with pytest.raises(CheckpointError, match=rf"{name}\.ckpt: ") as refused:
            EmbeddingClassifier.load_from_checkpoint(tmp_path / f"{name}.ckpt")
        assert "weights_only" not in str(refused.value)
        assert "\n" not in str(refused.value)


def test_damage_to_a_part_that_no_seal_covers_is_told(tmp_path: Path, checkpoint: Path) -> None:
    whole = torch.load(checkpoint, weights_only=True)
    torch.save({**whole, "more": {"tensor": torch.ones(1000)}}, tmp_path / "more.ckpt")
    read_checkpoint(tmp_path / "more.ckpt")
    content, ones = (tmp_path / "more.ckpt").read_bytes(), torch.ones(1000).numpy().tobytes()
    (tmp_path / "more.ckpt").write_bytes(content.replace(ones, ones[:-4] + bytes(4)))
    with pytest.raises(CheckpointError, match=r"more\.ckpt: cannot be read as a checkpoint .*checksum"):
        EmbeddingClassifier.load_from_checkpoint(tmp_path / "more.ckpt")

"""Checkpoints that name code, and what nobody thought of: one sentence, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import Run, runner
from jsonargparse._paths import PathError
from lightning.pytorch.cli import LightningArgumentParser

from estitchup_pl.cli import study
from estitchup_pl.model.checkpoint_io import seal

QUIET = ("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false", "--trainer.devices", "1")
QUICK = (*QUIET, "--trainer.max_epochs", "1", "--trainer.logger", "false", "--checkpoint.dirpath", "kept")
DIGITS = ("--data.store", "digits")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(tmp_path, monkeypatch, capfd)


def rename(path: Path, to: Path, **hparams: object) -> None:
    """Write a checkpoint with other hyperparameters, sealed anew."""
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"] |= hparams
    seal(content)
    torch.save(content, to)


def test_a_checkpoint_runs_nothing_that_the_call_does_not_name(run: Run, tmp_path: Path) -> None:
    (tmp_path / "my_plugins.py").write_text(
        "import os\n"
        "os.mkdir(f'ran-{len(os.listdir())}')\nfrom estitchup_pl import EmbeddingMLP\nclass Net(EmbeddingMLP): pass\n"
    )
    own = ("--model.network", "my_plugins.Net", "--model.network.hidden", "[8]")
    assert run("fit", *DIGITS, *QUICK, *own)[0] == 0
    ran = sorted(tmp_path.glob("ran*"))
    assert ran
    checkpoint = "kept/last.ckpt"
    for name in ("my_plugins", "absent_plugins"):
        net = {"class_path": f"{name}.Net", "init_args": {"hidden": [8]}}
        rename(tmp_path / checkpoint, tmp_path / f"{name}.ckpt", network=net)
    sys.modules.pop("my_plugins")
    for name in ("my_plugins", "absent_plugins"):
        status, _, errors = run("test", "--ckpt_path", f"{name}.ckpt", *DIGITS, *QUIET)
        assert status == 1
        assert f"the checkpoint names the class {name}.Net, and nothing is imported on a checkpoint's word" in errors
    assert sorted(tmp_path.glob("ran*")) == ran
    assert run("test", "--ckpt_path", checkpoint, *DIGITS, *QUIET, "--model.network", "my_plugins.Net")[0] == 0


def test_a_checkpoint_with_one_more_hyperparameter_is_told(run: Run, tmp_path: Path) -> None:
    assert run("fit", *DIGITS, *QUICK, "--model.network.hidden", "[8]")[0] == 0
    rename(tmp_path / "kept/last.ckpt", tmp_path / "newer.ckpt", sharpness=0.5)
    for command in ("test", "fit"):
        status, _, errors = run(command, "--ckpt_path", "newer.ckpt", *DIGITS, *QUIET)
        assert status == 1
        said = (
            "newer.ckpt: the checkpoint holds the hyperparameter 'sharpness', which EmbeddingClassifier does not have"
        )
        assert said in errors


def test_clipping_and_schedules_work_from_options(run: Run, tmp_path: Path) -> None:
    clip = ("--trainer.precision", "bf16-mixed", "--trainer.gradient_clip_val", "1.0")
    cycle = ("--model.lr_scheduler", "OneCycleLR", "--model.lr_scheduler.max_lr", "0.01")
    plateau = ("--model.lr_scheduler", "torch.optim.lr_scheduler.ReduceLROnPlateau")
    for folder, options in (("one", (*clip, *cycle)), ("two", plateau)):
        place = ("--checkpoint.dirpath", folder, "--model.network.hidden", "[8]")
        status, _, errors = run("fit", *DIGITS, *QUICK, *place, *options)
        assert status == 0, errors


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyError("odd"), 70, "error: KeyError: 'odd'\nNobody thought of this"),
        (RuntimeError("one\ntwo"), 70, "error: RuntimeError: one\nNobody thought of this"),
        (
            RuntimeError("[/gloo/pair.cc:545] Read error [127.0.0.1]:3490: Connection reset by peer. This is typical"),
            1,
            "error: another process of this run has ended (Read error [127.0.0.1]:3490: Connection reset by peer);",
        ),
        (OSError(30, "Read-only file system", "out/study.json"), 1, "error: out/study.json: Read-only file system"),
        (OSError(28, "No space left on device"), 1, "error: No space left on device"),
        (MemoryError(), 1, "error: there is not enough memory for this"),
    ],
)
def test_what_nobody_thought_of_is_a_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, said: str
) -> None:
    def fail(*given: object) -> None:
        raise error

    monkeypatch.setattr(study, "study_parser", fail)
    found, _, errors = run("study", "--out", "x")
    assert found == status
    assert errors.startswith(said)
    assert "Traceback" not in errors
    _, _, errors = run("study", "--out", "x", "--debug")
    assert "Traceback" in errors


@pytest.mark.parametrize(
    "content", ["store: \0", "a: " + "[" * 5_000, "store: [é", "\ud800".encode("utf-16-le", "surrogatepass")]
)
def test_a_configuration_that_is_no_yaml_is_told(run: Run, tmp_path: Path, content: str | bytes) -> None:
    (tmp_path / "a.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    status, _, errors = run("study", "--config", "a.yaml", "--out", "x")
    assert status == 2
    assert errors.startswith("error: a.yaml")


def test_options_that_take_no_class_import_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "evil_module.py").write_text("import os\nos.mkdir('ran')\nclass Net: pass\n")
    for option in ("--data.store", "--ckpt_path", "--data.modalities", "--seed_everything"):
        store = [] if option == "--data.store" else DIGITS
        assert run("test", *store, option, "evil_module.Net", *QUIET)[0] != 0
    assert run("study", "--store", "evil_module.Net", "--out", "x")[0] != 0
    assert not (tmp_path / "ran").exists()


def test_commands_that_take_no_class_see_nothing_of_the_working_directory(run: Run, tmp_path: Path) -> None:
    for name in ("numpy", "pyarrow", "yaml", "sitecustomize", "evil_module"):
        (tmp_path / f"{name}.py").write_text("import os\nos.mkdir('ran')\n")
    for words in (["store", "verify", "."], ["report", "."], ["store", "info", "."]):
        command = [sys.executable, "-P", "-m", "estitchup_pl", *words]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ended.returncode == 1, ended.stderr
        assert "Traceback" not in ended.stderr
    assert not (tmp_path / "ran").exists()


def test_a_folder_that_cannot_be_written_to_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, **options: object) -> None:
        raise PathError("File is not creatable since parent directory not writable: 'config.yaml'")

    monkeypatch.setattr(LightningArgumentParser, "save", refuse)
    status, _, errors = run("fit", *DIGITS, *QUICK)
    assert status == 1
    assert "error: the configuration cannot be saved: File is not creatable" in errors
    assert "Nobody thought" not in errors

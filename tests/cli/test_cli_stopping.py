"""Every command ends soon on SIGINT and SIGTERM, with 130 and 143, and says in a line what is kept."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from commands import Run, runner

from estitchup_pl.cli import interruption
from estitchup_pl.cli.ending import end_children
from estitchup_pl.locking import locked_folder

QUIET = ("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false", "--trainer.devices", "1")
SMALL = ("--data.store", "digits", *QUIET, "--model.network.hidden", "[16]", "--trainer.max_epochs")

PLUGIN = """
import os, signal
import lightning.pytorch as pl
from estitchup_pl.callbacks import EMixup

class Ask(pl.Callback):
    \"\"\"Asks its own process to end within an epoch of training, or a batch of evaluation.\"\"\"

    def __init__(self, number: str = "SIGTERM", epoch: int = 0, times: int = 1):
        self.number, self.epoch, self.times = getattr(signal, number), epoch, times

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch == self.epoch and batch_idx < self.times:
            os.kill(os.getpid(), self.number)

    def on_predict_batch_start(self, *args, **kwargs):
        os.kill(os.getpid(), self.number)

    def on_test_batch_start(self, *args, **kwargs):
        os.kill(os.getpid(), self.number)

    def on_validation_batch_start(self, trainer, *args, **kwargs):
        if trainer.state.fn == "validate":
            os.kill(os.getpid(), self.number)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    (tmp_path / "my_plugins.py").write_text(PLUGIN)
    return runner(tmp_path, monkeypatch, capfd)


def asking(**options: object) -> list[str]:
    given = [f"--trainer.callbacks.{name}={value}" for name, value in options.items()]
    return ["--trainer.callbacks+=my_plugins.Ask", *given]


def weights(path: str) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.mark.parametrize(("number", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_fit_ends_its_epoch_and_goes_on_as_if_nothing_had_been(run: Run, number: str, status: int) -> None:
    found, _, errors = run("fit", *SMALL, "9", *asking(number=number, epoch=2))
    kept = "runs/version_0/checkpoints/last.ckpt"
    assert found == status
    assert errors.splitlines()[-1].startswith(
        "stopped: epochs 0 to 2 are kept; the same command goes on with --ckpt_path "
    )
    assert errors.rstrip().endswith(kept)
    assert "Traceback" not in errors
    assert run("fit", *SMALL, "4", "--ckpt_path", kept)[0] == 0
    assert run("fit", *SMALL, "4")[0] == 0
    whole = weights("runs/version_2/checkpoints/last.ckpt")
    resumed = weights("runs/version_1/checkpoints/last.ckpt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_an_epoch_that_no_checkpoint_holds_is_kept_when_a_fit_is_stopped(run: Run) -> None:
    status, _, errors = run("fit", *SMALL, "9", "--checkpoint.every_n_epochs", "100", *asking(epoch=2))
    kept = "runs/version_0/checkpoints/stopped.ckpt"
    assert status == 143
    assert "stopped: epochs 0 to 2 are kept; the same command goes on with --ckpt_path " in errors
    assert errors.rstrip().endswith(kept)
    assert run("fit", *SMALL, "4", "--ckpt_path", kept)[0] == 0
    assert run("fit", *SMALL, "4")[0] == 0
    whole = weights("runs/version_2/checkpoints/last.ckpt")
    resumed = weights("runs/version_1/checkpoints/last.ckpt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_long_epoch_is_left_for_the_last_checkpoint(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "GRACE_SECONDS", -1.0)
    status, _, errors = run("fit", *SMALL, "9", *asking(epoch=2))
    assert status == 143
    assert "stopped: epochs 0 to 1 are kept; the same command goes on with --ckpt_path" in errors
    status, _, errors = run("fit", *SMALL, "9", *asking(epoch=0))
    assert (status, errors.splitlines()[-1]) == (143, "stopped: no epoch had been saved; the same command begins anew")


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_the_checkpoint_of_an_older_fit_is_not_taken_for_this_ones(run: Run) -> None:
    words = ("fit", *SMALL, "9", "--checkpoint.every_n_epochs", "100", "--checkpoint.dirpath", "kept")
    assert run(*words, *asking(epoch=2))[0] == 143
    status, _, errors = run(*words, *asking(epoch=0, times=2))
    assert (status, errors.splitlines()[-1]) == (143, "stopped: no epoch had been saved; the same command begins anew")
    status, _, errors = run(*words, *asking(epoch=1))
    assert "stopped: epochs 0 to 1 are kept" in errors
    assert torch.load("kept/stopped.ckpt", weights_only=True)["epoch"] == 1


def test_a_second_signal_ends_a_fit_at_once(run: Run) -> None:
    status, _, errors = run("fit", *SMALL, "9", *asking(epoch=1, times=2))
    assert status == 143
    assert "stopped: epochs 0 to 0 are kept" in errors


def test_evaluations_end_at_once(run: Run) -> None:
    assert run("fit", *SMALL, "1")[0] == 0
    common = ("--ckpt_path", "runs/version_0/checkpoints/last.ckpt", "--data.store", "digits", *QUIET)
    rows = ("--data.predict_rows", "all")
    for command in (("predict", *rows), ("test",), ("validate",)):
        status, _, errors = run(*command, *common, *asking())
        assert status == 143, command
        assert errors.splitlines()[-1] == "stopped: nothing is left half-written; the same command begins anew"
        assert "Traceback" not in errors
    assert not list(Path().glob("*predictions*"))


def test_a_fit_that_diverges_ends_with_an_error_that_names_rows(run: Run) -> None:
    rate = ("--model.optimizer", "SGD", "--model.optimizer.lr", "1e30", "--model.lr_scheduler", "null")
    status, _, errors = run("fit", *SMALL, "9", *rate)
    assert status == 1
    assert "error: the loss is not finite in epoch 0, first in batch 1 (rows " in errors
    assert not Path("runs/version_0/checkpoints/last.ckpt").exists()


def test_what_a_failed_command_has_started_ends_with_it(tmp_path: Path) -> None:
    """And what was there before it does not."""
    older = subprocess.Popen(["sleep", "100"])
    time.sleep(1.5)
    began = time.time()
    younger = subprocess.Popen(["sleep", "100"])
    end_children(began)
    assert younger.wait(10) == -signal.SIGTERM
    assert older.poll() is None
    older.kill()
    older.wait()


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_two_fits_do_not_write_to_one_folder(run: Run) -> None:
    with locked_folder(Path("kept")):
        status, _, errors = run("fit", *SMALL, "1", "--checkpoint.dirpath", "kept")
    assert status == 1
    assert "kept: another command is writing there. Wait until it has ended" in errors.replace("\n", " ")
    assert run("fit", *SMALL, "1", "--checkpoint.dirpath", "kept")[0] == 0
    assert [path.name for path in Path("kept").iterdir()] == ["last.ckpt"]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_full_disk_ends_a_fit_with_an_error_and_leaves_its_checkpoint(run: Run, file_limit) -> None:
    """Full when the configuration is saved, and when the checkpoint is."""
    assert run("fit", *SMALL, "1", "--checkpoint.dirpath", "kept")[0] == 0
    before = Path("kept/last.ckpt").read_bytes()
    saved = Path("runs/version_0/config.yaml").stat().st_size
    for limit in (saved - 1, len(before) - 1):
        with file_limit(limit):
            status, _, errors = run("fit", *SMALL, "2", "--checkpoint.dirpath", "kept")
        assert status == 1
        assert "cannot be written" in errors
        assert "Traceback" not in errors
        assert Path("kept/last.ckpt").read_bytes() == before
        assert [path.name for path in Path("kept").iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_process_that_creates_a_store_ends_with_the_status_of_the_signal(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    (tmp_path / "items.csv").write_text("id,label\n" + "".join(f"{row},x\n" for row in range(50)))
    (tmp_path / "slow.py").write_text(
        "import sys, time\n"
        "from estitchup_pl.store import creation\n"
        "real = creation.write_npy\n"
        "def slow(*args):\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(0.2)\n"
        "    return real(*args)\n"
        "creation.write_npy = slow\n"
        "import numpy as np\n"
        "np.save('a.npy', np.ones((50, 2), np.float32))\n"
        "from estitchup_pl.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    files = ["--items", "items.csv", "--modality", "a=a.npy", "--out", "made"]
    process = subprocess.Popen(
        [sys.executable, "slow.py", "store", "create", *files, "--rows-per-shard", "1"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(number)
    asked = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert time.monotonic() - asked < 8  # not the ten seconds of the rest
    assert errors.splitlines()[-1] == "stopped: nothing is left half-written; the same command begins anew"
    assert not (tmp_path / "made").exists()

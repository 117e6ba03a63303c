"""Fits in several processes: what they give, what becomes of one that dies, and who ends them."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import psutil
import pytest
import yaml
from filelock import FileLock
from small import digits_config, method

from estitchup_pl.errors import ConfigError, EstitchupError
from estitchup_pl.study import StudyConfig, StudyFolder, run_study, workers
from estitchup_pl.study.final import FinalFits
from estitchup_pl.study.gpus import first_free
from estitchup_pl.study.stage import Job, Stage
from estitchup_pl.study.study import Study
from estitchup_pl.study.workers import Crew, choose_workers

HERE = Path(__file__).parent


class Deadly(pl.Callback):
    """Kills its process the first time that it is asked to do something, and warns from then on."""

    def __init__(self, mark: str) -> None:
        self.mark = Path(mark)

    def on_train_start(self, trainer, pl_module):
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        warnings.warn("still alive", UserWarning, stacklevel=2)


def deadly_config(mark: Path, **options: object) -> StudyConfig:
    """Networks in stacks and alone, a user's own class, and a method without epochs."""
    logistic = {"class_path": "sklearn.linear_model.LogisticRegression"}
    methods = {
        **digits_config().methods,
        "Regression": method("EstimatorMethod", estimator=logistic),
        "Deadly": {"callbacks": [{"class_path": f"{__name__}.Deadly", "init_args": {"mark": str(mark)}}]},
    }
    return digits_config(methods=methods, stack_size=2, trials=1, epochs=2, precision="auto", **options)


def kept(folder: StudyFolder) -> dict[str, bytes]:
    """Every array of a study."""
    return {str(path.relative_to(folder.path)): path.read_bytes() for path in folder.path.rglob("*.npy")}


def test_two_workers_of_which_one_is_killed_give_the_very_numbers_of_this_process(tmp_path: Path):
    mark = tmp_path / "mark"
    died = pytest.warns(UserWarning, match="a worker process has died")
    with pytest.warns(UserWarning, match="still alive"), died:  # said in a worker, heard here
        together = run_study(deadly_config(mark, workers=2), StudyFolder(tmp_path / "together"))
    with pytest.warns(UserWarning, match="still alive"):
        alone = run_study(deadly_config(mark, workers=1), StudyFolder(tmp_path / "alone"))
    assert len(kept(alone)) > 4 * 2
    assert kept(together) == kept(alone)
    assert together.results().equals(alone.results())
    assert mark.exists()


def test_workers_start_beside_a_short_stage_and_take_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    handed_out = []
    hand_out = Crew._hand_out

    def told(self: Crew, study: Study, stage: Stage, jobs: Sequence[Job], workers: int) -> None:
        handed_out.append((stage.name, workers))
        hand_out(self, study, stage, jobs, workers)

    monkeypatch.setattr(Crew, "_hand_out", told)
    monkeypatch.setattr(workers, "cpu_count", lambda: 2)
    monkeypatch.setattr(workers, "SECONDS_WORTH_STARTED_WORKERS", 0)
    options = {"epochs": 2, "stack_size": 2}
    run_study(digits_config(workers="auto", **options), StudyFolder(tmp_path / "short"))
    assert not handed_out
    monkeypatch.setattr(workers, "SECONDS_WORTH_STARTING", 0)
    together = run_study(digits_config(workers="auto", **options), StudyFolder(tmp_path / "together"))
    assert handed_out == [("threshold", 2), ("final", 2)]
    alone = run_study(digits_config(workers=1, **options), StudyFolder(tmp_path / "alone"))
    assert kept(together) == kept(alone)


def test_a_study_that_ends_while_workers_start_says_nothing_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workers, "cpu_count", lambda: 2)
    monkeypatch.setattr(workers, "SECONDS_WORTH_STARTING", 0)
    monkeypatch.setattr(workers, "be_there", partial(time.sleep, 2))
    monkeypatch.setattr(workers, "fit_and_keep", stop)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(KeyboardInterrupt):
            run_study(digits_config(workers="auto"), StudyFolder(tmp_path))
    gc.collect()
    assert not [one for one in said if "joblib" in one.filename]


def test_workers_that_die_again_and_again_are_not_started_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tries = []

    def die(*arguments: object) -> list[object]:
        tries.append(arguments)
        raise BrokenProcessPool

    monkeypatch.setattr(Crew, "_results", die)
    with pytest.raises(EstitchupError, match="has died 3 times in a row"), pytest.warns(UserWarning, match="has died"):
        run_study(digits_config(workers=2), StudyFolder(tmp_path))
    assert len(tries) == 3


def test_auto_is_this_process_for_a_small_study_and_every_core_for_a_large_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(workers, "cpu_count", lambda: 3)

    def chosen(**options: object) -> int:
        study = Study(
            digits_config(methods={"Control": {}, "E-Mixup": {"callbacks": ["EMixup"]}}, **options),
            StudyFolder(tmp_path),
        )
        return choose_workers(study, FinalFits(), list(FinalFits().jobs(study)))

    assert chosen() == 1
    assert chosen(epochs=5000) == 3
    assert chosen(epochs=5000, trials=1) == 2  # no more than there are fits
    assert chosen(workers=7) == 7
    assert chosen(backend="ray") == -1  # all that the cluster has
    with pytest.raises(ConfigError, match='workers must be at least 1, or "auto", got 0'):
        chosen(workers=0)


def test_each_worker_of_a_machine_takes_a_gpu_of_its_own(tmp_path: Path):
    first, held = first_free(["4", "7"], tmp_path)
    second, held_too = first_free(["4", "7"], tmp_path)
    assert (first, second) == ("4", "7")
    shared, nothing = first_free(["4", "7"], tmp_path)
    assert shared in ("4", "7")
    assert nothing is None
    assert isinstance(held, FileLock)
    held.release()  # as the end of its process would
    again, _held = first_free(["4", "7"], tmp_path)
    assert again == "4"
    assert held_too is not None


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_every_process(tmp_path: Path, number: signal.Signals, status: int):
    config = digits_config(workers=2, stack_size=1, trials=1, epochs=100_000).plain()
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "estitchup_pl", "study", "--config", "long.yaml", "--out", "out"]
    process = subprocess.Popen(
        command, cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        # Candidates are short, so what is written last of them was written by workers that fit the next stage now.
        _wait_for(lambda: len(list(tmp_path.glob("out/runs/*/*/selection/*.json"))) == 2, 200)
        ours = [one for one in psutil.process_iter() if os.getsid(one.pid) == process.pid]
        assert len(ours) >= 3
        if number is signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)  # as a scheduler does
        output, _ = process.communicate(timeout=60)
        _wait_for(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in ours), 30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == status
    assert output.strip().endswith("stopped: every fit that had ended is kept in out; the same command goes on")
    assert "Traceback" not in output


def _wait_for(is_so, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.2)


def on_a_cluster(backend: str, path: str) -> None:
    """Run a study with two workers of a backend, which starts threads and servers, in a process of its own."""
    run_study(digits_config(workers=2, backend=backend, trials=1, epochs=2), StudyFolder(path))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the study of :func:`on_a_cluster` keeps if this process runs it."""
    path = tmp_path_factory.mktemp("alone")
    return kept(run_study(digits_config(workers=1, trials=1, epochs=2), StudyFolder(path)))


@pytest.mark.parametrize(("backend", "module"), [("ray", "ray"), ("dask", "distributed")])
def test_a_cluster_gives_the_very_numbers_of_this_process(
    backend: str, module: str, alone: dict[str, bytes], tmp_path: Path
):
    pytest.importorskip(module)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, str(HERE / "test_study_workers.py"), backend, "together"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=280)
    assert alone
    assert kept(StudyFolder(tmp_path / "together")) == alone


if __name__ == "__main__":
    on_a_cluster(*sys.argv[1:])

"""A study that was interrupted ends as one that was not; a finished fit is never done again."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from small import SPLIT, STITCH, digits_config, method, scaled

from estitchup_pl.errors import ConfigError, DataError, WriteError
from estitchup_pl.locking import LOCK_NAME, locked_folder
from estitchup_pl.stopping import Stopped
from estitchup_pl.study import StudyConfig, StudyFolder, fitting, run_study

OPTIONS = {"trials": 1, "epochs": 2, "stack_size": 1}


class KilledError(Exception):
    pass


class Fits:
    """Counts the runs that are fitted, and kills the study before one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kill_before: int | None = None) -> None:
        self.names: list[str] = []
        self.kill_before = kill_before
        original = fitting.fit_runs

        def fit_runs(runs, max_epochs, **options):
            for run in runs:  # a stack of one each, so that there is something between any two
                if len(self.names) == self.kill_before:
                    raise KilledError
                self.names.append(run.name)
                yield from original([run], max_epochs, **options)

        monkeypatch.setattr(fitting, "fit_runs", fit_runs)


def finish(config: StudyConfig, path: Path) -> StudyFolder:
    return run_study(config, StudyFolder(path))


def results(folder: StudyFolder) -> list[str]:
    return list(map(str, folder.results().to_pylist()))  # as text, so that NaN is what it was


def test_a_full_disk_is_told_and_the_study_goes_on_when_there_is_room(tmp_path: Path, file_limit):
    config = digits_config(**OPTIONS, methods={"A": {}})
    whole = finish(config, tmp_path / "whole")
    largest = max((path for path in whole.path.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    for limit in (100, largest.stat().st_size - 1):
        with (
            file_limit(limit),
            pytest.raises(WriteError, match=r"cannot be written \(.*File too large.*; what was"),
        ):
            finish(config, tmp_path / "full")
    assert results(finish(config, tmp_path / "full")) == results(whole)
    assert sorted(path.name for path in (tmp_path / "full").rglob("*") if path.suffix == ".tmp") == []


def test_two_studies_do_not_write_to_one_folder_but_anybody_reads_it(tmp_path: Path):
    config = digits_config(**OPTIONS, methods={"A": {}})
    folder = finish(config, tmp_path / "a")
    with locked_folder(folder.path):
        with pytest.raises(WriteError, match="a: another command is writing there"):
            finish(config, folder.path)
        assert folder.results().num_rows > 0
    assert results(finish(config, folder.path)) == results(folder)


def test_a_stop_says_that_fits_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class StoppedHere(Stopped):
        def __init__(self) -> None:
            super().__init__(signal.SIGTERM)

    fits = Fits(monkeypatch, kill_before=1)
    monkeypatch.setitem(globals(), "KilledError", StoppedHere)
    with pytest.raises(Stopped) as stop:
        finish(digits_config(**OPTIONS, methods={"A": {}}), tmp_path)
    assert stop.value.kept == f"every fit that had ended is kept in {tmp_path}; the same command goes on"
    assert len(fits.names) == 1
    assert not (tmp_path / LOCK_NAME).exists()


def test_killed_anywhere_it_goes_on_and_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    methods = {
        "E": method("Ensemble", base="A", size=3),
        "A": {"callbacks": [STITCH], "grid": {"alpha": [0.2, 0.8]}},
        "E, scaled": scaled("E"),
    }
    config = digits_config(**OPTIONS, methods=methods)
    with monkeypatch.context() as patch:
        whole_fits = Fits(patch)
        whole = finish(config, tmp_path / "whole")
    assert len(whole_fits.names) == 2 + 2 * 3 + 3
    for kill_before in (1, 2, 4, 9):  # within selection, between stages, within the repeats of an ensemble
        path = tmp_path / str(kill_before)
        with monkeypatch.context() as patch:
            before = Fits(patch, kill_before)
            with pytest.raises(KilledError):
                finish(config, path)
        with monkeypatch.context() as patch:
            after = Fits(patch)
            resumed = finish(config, path)
        assert before.names + after.names == whole_fits.names
        assert results(resumed) == results(whole)
        np.testing.assert_array_equal(resumed.read_logits("E", 0, "logits"), whole.read_logits("E", 0, "logits"))


def test_a_study_killed_before_its_logits_are_joined_goes_on_without_a_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = digits_config(**OPTIONS, methods={"A": {}, "E": method("Ensemble", base="A", size=2)})
    folder = finish(config, tmp_path)
    expected = results(folder)
    fits = Fits(monkeypatch)
    for names in (("run.json", "logits.npy"), ("run.json", "threshold.json", "threshold/1.npy")):
        for name in names:
            (folder.run_path("E", 0) / name).unlink()
        assert results(finish(config, tmp_path)) == expected
    assert fits.names == []


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("E-Stitchup/0/logits.npy", 1),
        ("E-Stitchup/0/curve.parquet", 1),
        ("E-Stitchup/0/threshold/1.npy", 1),
        ("E-Stitchup/0/selection/1-0.json", 1),
        ("E-Stitchup/0/threshold.json", 0),
        ("E-Stitchup/0/run.json", 0),
        ("Sum/0/none_scores.npy", 0),
        ("Sum/0/learnt.npz", 0),
    ],
)
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"\x00" * len(data),
        lambda data: (
            data[: 2 * len(data) // 3] + bytes([data[2 * len(data) // 3] ^ 1]) + data[2 * len(data) // 3 + 1 :]
        ),
    ],
    ids=["half", "zeros", "a bit"],
)
def test_a_damaged_file_is_told_and_made_anew(name: str, again: int, damage, tmp_path: Path, whole: Path, monkeypatch):
    shutil.copytree(whole, tmp_path / "study")
    method_name, rest = name.split("/", 1)
    path = StudyFolder(tmp_path / "study").run_path(method_name, 0) / rest[2:]
    kept = path.read_bytes()
    path.write_bytes(damage(kept))
    if path.name in ("logits.npy", "run.json", "none_scores.npy"):
        with pytest.raises(DataError, match=f"{path.name}: .*makes anew"):
            StudyFolder(tmp_path / "study").predictions(method_name, 0)
    fits = Fits(monkeypatch)
    with pytest.warns(UserWarning, match="1 damaged files are made anew"):
        folder = finish(sum_config(), tmp_path / "study")
    assert len(fits.names) == again
    assert results(folder) == results(StudyFolder(whole))
    if path.suffix != ".npz":  # which holds the time
        assert path.read_bytes() == kept


def test_several_damaged_files_of_one_run_are_made_anew(tmp_path: Path, whole: Path):
    folder = StudyFolder(shutil.copytree(whole, tmp_path / "study"))
    run = folder.run_path("Sum", 0)
    for name in ("learnt.npz", "none_scores.npy", "run.json", "threshold.json"):  # of which some go with others
        (run / name).write_bytes((run / name).read_bytes()[:20])
    with pytest.warns(UserWarning, match="4 damaged files are made anew"):
        finish(sum_config(), folder.path)
    assert results(folder) == results(StudyFolder(whole))


def test_a_damaged_table_of_a_trial_or_of_results_is_told_and_made_anew(tmp_path: Path, whole: Path):
    folder = StudyFolder(shutil.copytree(whole, tmp_path / "study"))
    for name, read in (("trials/0.parquet", lambda: folder.trial(0)), ("results.parquet", folder.results)):
        kept = (folder.path / name).read_bytes()
        (folder.path / name).write_bytes(kept.replace(b"E-Stitchup", b"E-Stitchdn").replace(b"train", b"trail"))
        with pytest.raises(DataError, match=rf"{name}: damaged .*makes anew"):
            read()
        finish(sum_config(), folder.path)
        assert (folder.path / name).read_bytes() == kept


def test_a_damaged_header_says_how_to_go_on(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch):
    folder = StudyFolder(shutil.copytree(whole, tmp_path / "study"))
    path = folder.path / "study.json"
    path.write_text(path.read_text().replace('"epochs": 2', '"epochs": 3'))
    with pytest.raises(DataError, match=r"study\.json: damaged .* restore it from a copy, or, .* remove it"):
        finish(sum_config(), folder.path)
    path.unlink()
    fits = Fits(monkeypatch)
    assert results(finish(sum_config(), folder.path)) == results(StudyFolder(whole))
    assert fits.names == []


def sum_config() -> StudyConfig:
    own = method("Decided", base="E-Stitchup", score=method("SumOfScores"))
    return digits_config(**OPTIONS, methods={**digits_config().methods, "Sum": own})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish(sum_config(), tmp_path_factory.mktemp("whole")).path


def test_ensembles_of_one_base_share_its_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fits = Fits(monkeypatch)
    methods = {"A": {}, **{f"E{size}": method("Ensemble", base="A", size=size) for size in (2, 3)}}
    finish(digits_config(**OPTIONS, methods=methods), tmp_path)
    assert len(fits.names) == len(set(fits.names)) == (2 + 1) * 3


def test_what_needs_no_fit_can_be_added_later(finished: Path, monkeypatch: pytest.MonkeyPatch):
    fits = Fits(monkeypatch)
    methods = {**digits_config().methods, "Scaled": scaled("Control")}
    folder = finish(digits_config(**OPTIONS, methods=methods), finished)
    assert fits.names == []
    assert folder.record("Scaled", 0).parameters["calibrator.temperature"] != 1


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    finish(digits_config(**OPTIONS), tmp_path)
    return tmp_path


def test_what_is_there_is_kept_and_what_is_new_is_run(finished: Path, monkeypatch: pytest.MonkeyPatch):
    fits = Fits(monkeypatch)
    finish(digits_config(**OPTIONS), finished)
    assert fits.names == []
    own = digits_config(**OPTIONS)
    more = {**own.methods, "Wide": {"callbacks": [STITCH]}}
    folder = finish(digits_config(**{**OPTIONS, "trials": 2, "stack_size": 4}, methods=more, name="other"), finished)
    assert {name.split(",")[0] for name in fits.names if "trial 0" in name} == {"Wide"}
    assert {name.split(",")[0] for name in fits.names if "trial 1" in name} == {"Control", "E-Stitchup", "Wide"}
    assert set(folder.results()["study"].to_pylist()) == {"other"}


def test_a_changed_configuration_is_refused_by_name(finished: Path):
    changes = {
        "epochs was 2 .* is 3 now": digits_config(**{**OPTIONS, "epochs": 3}),
        "repeats was 2 .* is 3 now": digits_config(**{**OPTIONS, "repeats": 3}),
        r"split\.init_args\.unknown_classes was \[\"eight\", \"nine\"\]": digits_config(
            **OPTIONS, split={**SPLIT, "unknown_classes": []}
        ),
        r"methods\.E-Stitchup\.init_args\.grid\.alpha was \[0\.2, 0\.8\]": digits_config(
            **OPTIONS, methods={"E-Stitchup": {"callbacks": [STITCH], "grid": {"alpha": [0.2, 0.4]}}}
        ),
    }
    for message, config in changes.items():
        with pytest.raises(ConfigError, match=message) as error:
            finish(config, finished)
        assert "another --out" in str(error.value)
    assert json.loads((finished / "study.json").read_text())["config"]["epochs"] == 2

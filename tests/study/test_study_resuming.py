"""A study that was interrupted ends as one that was not; a finished fit is never done again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small import SPLIT, STITCH, digits_config, method

from estitchup_pl.errors import ConfigError
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


def test_killed_anywhere_it_goes_on_and_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    methods = {
        "E": method("Ensemble", base="A", size=3),
        "A": {"callbacks": [STITCH], "grid": {"alpha": [0.2, 0.8]}},
        "E, scaled": method("TemperatureScaling", base="E"),
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
    expected = folder.results()
    fits = Fits(monkeypatch)
    for names in (("run.json", "logits.npy"), ("run.json", "threshold.json", "threshold/1.npy")):
        for name in names:
            (folder.run_path("E", 0) / name).unlink()
        assert finish(config, tmp_path).results().equals(expected)
    assert fits.names == []


def test_ensembles_of_one_base_share_its_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fits = Fits(monkeypatch)
    methods = {"A": {}, **{f"E{size}": method("Ensemble", base="A", size=size) for size in (2, 3)}}
    finish(digits_config(**OPTIONS, methods=methods), tmp_path)
    assert len(fits.names) == len(set(fits.names)) == (2 + 1) * 3


def test_what_needs_no_fit_can_be_added_later(finished: Path, monkeypatch: pytest.MonkeyPatch):
    fits = Fits(monkeypatch)
    methods = {**digits_config().methods, "Scaled": method("TemperatureScaling", base="Control")}
    folder = finish(digits_config(**OPTIONS, methods=methods), finished)
    assert fits.names == []
    assert folder.record("Scaled", 0).parameters["temperature"] != 1


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

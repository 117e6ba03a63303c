"""``estitchup study`` as a user types it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from commands import Run, runner

from estitchup_pl.study import StudyFolder

CONFIGS = Path(__file__).parents[2] / "configs" / "study"
STUDIES = sorted(path for path in CONFIGS.glob("*.yaml") if not path.stem.startswith("active_learning"))
SHORT = (
    "--trials=1",
    "--epochs=2",
    "--selection.epochs=1",
    "--model.network.hidden=[8]",
    "--curve_every=1",
    "--accelerator=cpu",
)
BASE = {
    "store": "digits",
    "model": {"scaling": "standardize"},
    "split": {"train_fraction": 0.3, "unknown_classes": ["eight", "nine"]},
    "held_out": 2,
    "methods": {"Control": {}},
}
OWN = """
import lightning.pytorch as pl


class Doubling(pl.Callback):
    def __init__(self, factor: float = 2.0):
        self.factor = factor

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        batch.embeddings = batch.embeddings * self.factor
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(tmp_path, monkeypatch, capfd)


def test_a_study_with_a_method_of_ones_own_ends_with_tables_and_report(run: Run, tmp_path: Path):
    (tmp_path / "my_plugins.py").write_text(OWN)
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(BASE))
    more = {"Doubled": {"callbacks": [{"class_path": "my_plugins.Doubling"}], "grid": {"factor": [1.5, 2.0]}}}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump({"more_methods": more}))
    status, out, err = run("study", "--config", "base.yaml", "--config", "more.yaml", "--out=demo", *SHORT)
    assert status == 0, err
    assert "Control" in out
    assert "Doubled" in out
    assert "finding thresholds: 10 fits of 2 epochs" in err
    assert out.strip().endswith("report: demo/report.html")
    for name in ("study.json", "results.parquet", "tables.md", "tables.json", "report.html", "best.ckpt"):
        assert (tmp_path / "demo" / name).is_file()
    command = "estitchup predict --ckpt_path demo/best.ckpt --store digits"
    assert command in out.replace("\n", " ")
    status, _, err = run(*command.split()[1:])
    assert status == 0, err
    predicted = {row["id"]: row for row in pq.read_table(tmp_path / "predictions.parquet").to_pylist()}
    study = StudyFolder(tmp_path / "demo")
    best = study.read_best()
    assert best is not None
    kept = study.predictions(best["method"], 0)
    confidence = [predicted[item]["confidence"] for item in kept.ids.to_pylist()]
    np.testing.assert_allclose(confidence, kept.probabilities.amax(1), atol=3e-3)
    status, _, err = run("study", "--config", "base.yaml", "--out=demo", *SHORT, "--epochs=3")
    assert status == 2
    assert "epochs was 2" in err


@pytest.mark.parametrize("config", STUDIES, ids=lambda path: path.stem)
def test_every_config_names_what_is_there(run: Run, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from estitchup_pl.cli import study
    from estitchup_pl.study.study import Study

    monkeypatch.setattr(study, "run_study", lambda config, folder, report: Study(config, folder).check())
    monkeypatch.setattr(study, "_print_report", lambda config, folder: None)
    first = CONFIGS / "digits.yaml"  # baselines.yaml adds to another study
    status, _, err = run("study", "--config", first, "--config", config, "--out=x", "--store=digits")
    assert status == 0, err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--epoch=3",), "did you mean '--epochs'"),
        (("--selection.metri=ece",), "did you mean '--selection.metric'"),
        (('--more_methods={"A": {"callback": []}}',), "did you mean 'callbacks'"),
        (("--trials=0",), "trials must be at least 1"),
        (("--store=nowhere",), "nowhere"),
        (('--more_methods={"A": {"callbacks": [{"class_path": "EMixUp"}]}}',), "did you mean 'EMixup'"),
    ],
)
def test_a_wrong_call_is_explained(run: Run, words: tuple[str, ...], message: str):
    status, _, err = run("study", "--config", CONFIGS / "digits.yaml", "--out=x", *words)
    assert status in (1, 2)
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err


def test_print_config(run: Run, capfd: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        run("study", "--store=digits", "--out=x", "--print_config")
    assert not stop.value.code
    assert "Soft E-Mixup:" in capfd.readouterr().out

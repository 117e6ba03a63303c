"""TensorBoard, MLflow, and a logger of somebody's own get what W&B gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import yaml
from album import Album
from training import classifier, data, trainer

from estitchup_pl.callbacks import Calibration, EStitchup, LabelSoftening, OODThreshold
from estitchup_pl.cli import main
from estitchup_pl.dashboards import Dashboard, file_of
from estitchup_pl.data.splits import ThresholdSplit, TrialSplit
from estitchup_pl.errors import ConfigError
from estitchup_pl.model import MaxProbability, NeighborDistance, SumOfScores

QUIET = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.devices=1")
FIT = ("--config=digits_threshold", "--config=soft_e_stitchup", "--config=threshold/fit", "--trainer.max_epochs=2")
NAMES = {"reliability", "accuracy_over_thresholds", "risk_over_coverage", "confidences"}
SPLIT = ThresholdSplit(TrialSplit(0, 0.6), held_out=2)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["estitchup"])
    return tmp_path


@pytest.fixture
def album(tmp_path: Path) -> Album:
    return Album(tmp_path / "album")


def fit(folder: Path, album: Album, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    options = {"callbacks": [*callbacks, Dashboard(**options)], "logger": album, "log_every_n_steps": 1}
    run = trainer(folder, enable_checkpointing=True, **options)
    run.fit(classifier(scaling="standardize"), data(split=SPLIT))
    return run


def test_a_logger_of_ones_own_gets_everything(tmp_path: Path, album: Album) -> None:
    run = fit(tmp_path, album, EStitchup(0.3), LabelSoftening(0.05), OODThreshold(), items=5)
    run.test(run.lightning_module, run.datamodule, verbose=False)
    assert set(album.pictures) == {f"{part}/{name}" for part in ("val", "test") for name in NAMES}
    assert all(png.startswith(b"\x89PNG") for png in album.pictures.values())
    assert set(album.tables) == {
        f"{part}/{name}" for part in ("val", "test") for name in ("classes", "items_near_the_threshold")
    }
    assert len(album.tables["test/items_near_the_threshold"].rows) == 5
    assert [path.suffix for path in album.checkpoints] == [".ckpt"]
    assert album.checkpoints[0].is_file()
    assert [command for command, _ in album.records] == ["fit", "test"]


def test_from_python_the_record_says_what_the_objects_are(tmp_path: Path, album: Album) -> None:
    fit(tmp_path, album, EStitchup(0.3), LabelSoftening(0.05), OODThreshold(), items=0)
    ((_, record),) = album.records
    assert record["trainer"]["callbacks"]["EStitchup"]["init_args"] == {"alpha": 0.3}
    assert record["trainer"]["callbacks"]["LabelSoftening"]["init_args"] == {"softness": 0.05}
    assert record["trainer"]["max_epochs"] == 2
    assert record["model"]["init_args"]["network"]["init_args"] == {"hidden": [16]}
    assert record["model"]["init_args"]["scaling"] == "standardize"
    options = record["data"]["init_args"]
    assert (options["store"], options["batch_size"]) == ("in memory", 32)
    assert options["split"]["init_args"]["split"]["init_args"]["train_fraction"] == 0.6
    assert record["run"]["classes"] == ["bee", "cat", "dog", "fox"]
    assert record["run"]["rows"]["train"] > 0
    assert not {name.partition("/")[2] for name in album.tables} - {"classes"}  # no items were asked for


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [Calibration(), OODThreshold(score=SumOfScores([MaxProbability(), NeighborDistance(k=3)]))],
    ],
    ids=["nothing fitted", "calibration and a sum of scores"],
)
def test_what_is_shown_is_decided_by_the_decision_of_the_checkpoint(
    tmp_path: Path, album: Album, parts: list[pl.Callback]
) -> None:
    run = fit(tmp_path, album, *parts, items=4)
    model, rows = run.lightning_module, run.datamodule
    numbers = rows.parts.val
    answers = model.predict({name: rows.store.gather(numbers, [name]) for name in rows.store.modalities})
    names = (*model.class_names, "none")
    truth = np.array([names[code] for code in rows.labels.index(model.class_names)[numbers]])
    for name, count, _, accuracy, share, *_ in album.tables["val/classes"].rows:
        mine = np.array(answers.predicted)[truth == name]
        assert (count, accuracy) == (len(mine), pytest.approx((mine == name).mean(), abs=1e-4))
        assert share == pytest.approx((mine == "none").mean(), abs=1e-4)
    middle = model.threshold if parts else 0.0
    wanted = sorted(np.abs(1 - answers.none_scores.numpy() - middle))[:4]
    shown = [row[-1] for row in album.tables["val/items_near_the_threshold"].rows]
    assert shown == sorted(shown)
    assert sorted(abs(value - middle) for value in shown) == pytest.approx(wanted, abs=1e-4)


def test_without_validation_rows_there_is_a_record_alone(tmp_path: Path, album: Album) -> None:
    run = trainer(tmp_path, callbacks=[Dashboard()], logger=album, limit_val_batches=0, log_every_n_steps=1)
    run.fit(classifier(), data())
    assert album.records
    assert not album.pictures
    assert not album.tables


def test_a_negative_number_of_items_is_refused() -> None:
    with pytest.raises(ConfigError, match="items must not be negative, got -1"):
        Dashboard(items=-1)


def test_tensorboard_has_it_all_in_the_folder_of_the_fit(place: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert main(["fit", *FIT, "--config=tensorboard", *QUIET]) == 0
    assert main(["fit", *FIT, "--config=tensorboard", *QUIET]) == 0
    written = yaml.safe_load(Path("runs/version_0/config.yaml").read_text())
    test = ("--data.store=digits", "--ckpt_path=runs/version_0/checkpoints/last.ckpt")
    assert main(["test", *test, "--config=tensorboard", *QUIET]) == 0
    assert sorted(path.name for path in Path("runs").iterdir() if path.is_dir()) == ["version_0", "version_1"]
    assert yaml.safe_load(Path("runs/version_0/config.yaml").read_text()) == written
    events = EventAccumulator("runs/version_0").Reload()
    assert set(events.Tags()["images"]) == {f"{part}/{name}" for part in ("val", "test") for name in NAMES}
    assert {"train/lr", "val/auroc", "test/auroc"} <= set(events.Tags()["scalars"])
    (text,) = events.Tensors("test/classes/text_summary")
    assert "| class | rows | training rows |" in text.tensor_proto.string_val[0].decode()
    assert events.Tensors("test/items_near_the_threshold/text_summary")
    recorded = yaml.safe_load(Path("runs/version_0/hparams.yaml").read_text())
    assert recorded["trainer"]["callbacks"]["LabelSoftening"]["init_args"] == {"softness": 0.1}
    assert file_of(recorded) == {**written, "ckpt_path": None}


@pytest.mark.filterwarnings("ignore:::mlflow")
def test_mlflow_has_it_all_in_the_run_of_the_fit(place: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    assert main(["fit", *FIT, "--config=mlflow", *QUIET]) == 0
    client = mlflow.MlflowClient("sqlite:///runs/mlflow.db")
    (experiment,) = [each for each in client.search_experiments() if each.name == "estitchup"]
    (run,) = client.search_runs([experiment.experiment_id])
    (checkpoint,) = place.glob("runs/**/artifacts/checkpoints/last.ckpt")
    test = ("--data.store=digits", f"--ckpt_path={checkpoint}")
    assert main(["test", *test, "--config=mlflow", *QUIET]) == 0
    (run,) = client.search_runs([experiment.experiment_id])
    assert {"train/lr", "val/auroc", "test/auroc"} <= set(run.data.metrics)
    assert run.data.params["trainer/callbacks/EStitchup/init_args/alpha"] == "0.4"
    folder = checkpoint.parents[1]
    for part in ("val", "test"):
        files = {path.name for path in (folder / part).iterdir()}
        assert files == {*(f"{name}.png" for name in NAMES), "classes.html", "items_near_the_threshold.html"}
    assert "<td>class</td><td>rows</td>" in (folder / "test/classes.html").read_text()
    assert yaml.safe_load((folder / "test.yaml").read_text())["data"]["init_args"]["store"] == "digits"
    recorded = file_of(yaml.safe_load((folder / "fit.yaml").read_text()))
    assert [each["init_args"] for each in recorded["trainer"]["callbacks"]][:2] == [{"alpha": 0.4}, {"softness": 0.1}]

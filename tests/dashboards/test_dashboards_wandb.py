"""A run of Weights & Biases says all about a fit: read back from the file that would be sent to the server."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from blobs import blobs_store
from PIL import Image
from raw_catalogue import picture

from estitchup_pl import EmbeddingClassifier
from estitchup_pl.cli import main
from estitchup_pl.dashboards import file_of
from estitchup_pl.data.trained_rows import build_split
from estitchup_pl.store import EmbeddingStore, ModalityInfo
from estitchup_pl.store.labels import StoreLabels

wandb = pytest.importorskip("wandb")
from wandb_records import RunOnDisk, offline_runs  # noqa: E402  # reads wandb's own protocol

QUIET = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.devices=1")
FIT = (
    "--config=e_stitchup",
    "--config=threshold/fit",
    "--data.store=shop",
    "--data.split=ThresholdSplit",
    "--data.split.split=TrialSplit",
    "--data.split.split.train_fraction=0.6",
    "--data.split.held_out=2",
    "--model.network.hidden=[16]",
    "--trainer.max_epochs=4",
)
SHOWN = ("--dashboard.items=6", "--dashboard.picture=file", "--dashboard.root=pictures")
CALLBACKS = "trainer:\n  callbacks+:\n    - {class_path: EStitchup, init_args: {alpha: ALPHA}}\n"
FIGURES = ("reliability", "accuracy_over_thresholds", "risk_over_coverage", "confidences")


def call(*words: str) -> None:
    """Run a command with W&B, as in a process of its own."""
    command, *options = words
    try:
        assert main([command, "--config=wandb", "--trainer.logger.offline=true", *QUIET, *options]) == 0
    finally:
        wandb.finish()
        wandb.teardown()  # whose process may write on after `finish`


def make_shop(folder: Path) -> None:
    """A store whose items have names, and files with pictures, one of them missing and one broken."""
    rows = blobs_store(unlabelled=0)
    (folder / "pictures").mkdir()
    for row in range(len(rows)):
        (folder / "pictures" / f"{row}.png").write_bytes(picture(row, size=(40, 30)))
    (folder / "pictures" / "1.png").unlink()
    (folder / "pictures" / "2.png").write_text("no picture")
    items = rows.items.select(["id", "label"])
    items = items.append_column("name", pa.array([f"article {row}" for row in range(len(rows))]))
    items = items.append_column("file", pa.array([f"{row}.png" for row in range(len(rows))]))
    arrays = {name: rows.gather(np.arange(len(rows)), [name]) for name in rows.modalities}
    info = {"title": ModalityInfo(7, encoder="MiniLM", pooling="mean", revision="r1")}
    EmbeddingStore.create(folder / "shop", items, arrays, info=info)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which the same fit was run with an alpha of 0.2 and of 0.8, and the first one tested."""
    folder = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["estitchup"])
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("WANDB_DATA_DIR", str(folder / "staged"))
        make_shop(folder)
        wandb.finish()  # of a test before
        wandb.teardown()  # its process writes where it was begun
        for alpha in ("0.2", "0.8"):
            (folder / "mine.yaml").write_text(CALLBACKS.replace("ALPHA", alpha))
            call("fit", "--config=mine.yaml", *FIT[1:], *SHOWN)
        first = offline_runs(folder)[0]
        call("test", f"--ckpt_path=runs/estitchup/{first.id}/checkpoints/last.ckpt", "--data.store=shop", *SHOWN)
        yield folder


@pytest.fixture(scope="module")
def runs(place: Path) -> list[RunOnDisk]:
    return offline_runs(place)


@pytest.fixture(scope="module")
def model(place: Path, runs: list[RunOnDisk]) -> EmbeddingClassifier:
    return EmbeddingClassifier.load_from_checkpoint(place / f"runs/estitchup/{runs[0].id}/checkpoints/last.ckpt")


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """All values of nested ones, by their paths."""
    if isinstance(value, dict):
        return {key: leaf for name, item in value.items() for key, leaf in leaves(item, f"{path}.{name}").items()}
    return {path.removeprefix("."): value}


def test_two_runs_differ_in_their_one_option_alone(runs: list[RunOnDisk]) -> None:
    first, second = (leaves(run.config) for run in runs[:2])
    differing = {key: (first[key], second[key]) for key in first.keys() | second.keys() if first[key] != second[key]}
    assert differing == {"trainer.callbacks.EStitchup.init_args.alpha": (0.2, 0.8)}


def test_the_whole_run_is_there_once_and_nested(runs: list[RunOnDisk], model: EmbeddingClassifier) -> None:
    config = runs[0].config
    assert len(set(runs[0].config_updates)) == len(runs[0].config_updates)
    assert not {"network", "optimizer", "class_names", "scaling"} & config.keys()  # which Lightning would log again
    assert config["seed_everything"] == 0
    assert config["trainer"]["max_epochs"] == 4
    assert config["trainer"]["callbacks_order"] == ["EStitchup", "OODThreshold"]
    options = config["data"]["init_args"]
    assert (options["store"], options["batch_size"], options["split"]["init_args"]["held_out"]) == ("shop", 128, 2)
    found = config["run"]
    assert found["classes"] == list(model.class_names)
    assert found["modalities"] == {"title": 7, "image": 5}
    assert found["encoders"]["title"] == {"encoder": "MiniLM", "pooling": "mean", "revision": "r1"}
    store = EmbeddingStore.open("shop")
    parts = build_split(model.trained_on.split).assign(store, StoreLabels.read(store))
    assert found["rows"] == {"train": len(parts.train), "val": len(parts.val), "test": len(parts.test)}


def test_the_same_fit_comes_of_the_record_alone(place: Path, runs: list[RunOnDisk]) -> None:
    recorded = dict(sorted(copy.deepcopy(runs[1].config).items()))
    recorded["trainer"]["callbacks"] = dict(sorted(recorded["trainer"]["callbacks"].items(), reverse=True))
    (place / "again.yaml").write_text(yaml.safe_dump(file_of(recorded)))  # a server keeps no order
    before = {run.id for run in offline_runs(place)}
    call("fit", "--config=again.yaml")
    (again,) = [run for run in offline_runs(place) if run.id not in before]
    assert leaves(again.config) == leaves(runs[1].config)
    assert numbers(again) == numbers(runs[1]) != numbers(runs[0])


def numbers(run: RunOnDisk) -> list[dict[str, float]]:
    """What was measured in each step."""
    steps = [{key: value for key, value in step.items() if not key.startswith("_")} for step in run.history]
    return [{key: value for key, value in step.items() if isinstance(value, int | float)} for step in steps]


def test_the_learning_rate_follows_the_cycle(runs: list[RunOnDisk]) -> None:
    rates = [step["train/lr"] for step in runs[0].history if "train/lr" in step]
    assert rates == pytest.approx([0.0003 + 0.0027 * epoch / 6 for epoch in range(1, 5)], rel=1e-5)


@pytest.mark.parametrize(("run", "part"), [(0, "val"), (2, "test")])
def test_figures_and_tables_are_those_of_the_evaluated_rows(
    runs: list[RunOnDisk], model: EmbeddingClassifier, run: int, part: str
) -> None:
    for name in FIGURES:
        (file,) = runs[run].pictures(f"{part}/{name}")
        with Image.open(file) as drawn:
            assert min(drawn.size) > 300
            assert len(set(drawn.convert("L").resize((60, 60)).tobytes())) > 5  # not blank
    store = EmbeddingStore.open("shop")
    labels = StoreLabels.read(store)
    rows = vars(build_split(model.trained_on.split).assign(store, labels))[part]
    answers = model.predict({name: store.gather(rows, [name]) for name in store.modalities})
    known = [name if name in model.class_names else "none" for name in np.array(store.column("label"))[rows]]
    predicted = np.array(answers.predicted)

    table = runs[run].table(f"{part}/classes")
    assert table["columns"][:4] == ["class", "rows", "training rows", "accuracy"]
    shown = {row[0]: row for row in table["data"]}
    assert set(shown) == set(known)
    for name, row in shown.items():
        mine = np.array(known) == name
        assert row[1] == mine.sum()
        assert row[3] == pytest.approx((predicted[mine] == name).mean(), abs=1e-4)
        assert row[4] == pytest.approx((predicted[mine] == "none").mean(), abs=1e-4)
        assert row[5] == pytest.approx(answers.confidence.numpy()[mine].mean(), abs=1e-4)
    assert [row[3] for row in table["data"]] == sorted(row[3] for row in table["data"])

    table = runs[run].table(f"{part}/items_near_the_threshold")
    assert table["columns"] == [
        *("id", "picture", "name", "label", "predicted", "most likely", "confidence", "acceptance")
    ]
    distance = (answers.confidence.double() - model.threshold).abs()
    wanted = {f"item-{rows[place]}" for place in distance.argsort(stable=True)[:6].tolist()}
    assert {row[0] for row in table["data"]} == wanted
    for name, shot, text, label, said, *_ in table["data"]:
        number = int(name.removeprefix("item-"))
        assert text == f"article {number}"
        assert label == store.column("label")[number].as_py()
        assert said == answers.predicted[list(rows).index(number)]
        assert (shot is None) == (number in (1, 2))
        if shot is not None:
            assert (shot["width"], shot["height"]) == (128, 128)


def test_the_checkpoint_is_an_artifact(runs: list[RunOnDisk], place: Path) -> None:
    files = runs[0].artifacts[f"model-{runs[0].id}"]
    written = place / f"runs/estitchup/{runs[0].id}/checkpoints/last.ckpt"
    assert files["model.ckpt"].read_bytes() == written.read_bytes()


def test_a_test_joins_the_run_of_its_fit(runs: list[RunOnDisk], place: Path) -> None:
    fitted, other, tested = runs[:3]
    assert tested.id == fitted.id != other.id
    assert set(tested.config) - {"_wandb"} == {"test"}  # nothing of the fit's is replaced
    assert tested.config["test"]["data"]["init_args"]["store"] == "shop"
    assert tested.last("test/auroc") > 0.5
    assert yaml.safe_load((place / "runs/config.yaml").read_text())["trainer"]["max_epochs"] == 4


def test_a_run_that_is_named_is_not_joined_to_another(runs: list[RunOnDisk], place: Path) -> None:
    checkpoint = f"--ckpt_path=runs/estitchup/{runs[0].id}/checkpoints/last.ckpt"
    call("validate", checkpoint, "--data.store=shop", "--trainer.logger.id=mine")
    (mine,) = [run for run in offline_runs(place) if run.id == "mine"]
    assert mine.last("val/auroc") == pytest.approx(runs[0].summary["val/auroc"])
    assert mine.pictures("val/reliability")


def test_a_checkpoint_without_a_board_names_no_run(runs: list[RunOnDisk], place: Path) -> None:
    assert (
        main(
            [
                "fit",
                *FIT,
                "--trainer.max_epochs=1",
                "--trainer.logger=CSVLogger",
                *QUIET,
                "--trainer.logger.save_dir=plain",
            ]
        )
        == 0
    )
    (file,) = place.glob("plain/**/checkpoints/last.ckpt")
    assert "Dashboard" not in torch.load(file, weights_only=True)["callbacks"]
    (kept,) = place.glob("plain/**/hparams.yaml")
    recorded = yaml.safe_load(kept.read_text())
    assert recorded["trainer"]["callbacks"]["EStitchup"]["init_args"] == {"alpha": 0.4}
    assert recorded["run"]["modalities"] == {"title": 7, "image": 5}
    assert "train/lr" in next(place.glob("plain/**/metrics.csv")).read_text().splitlines()[0]

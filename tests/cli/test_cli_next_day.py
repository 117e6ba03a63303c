"""The day after: new items, new labels and a new category take three commands, and no test row becomes another."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml
from commands import Run, runner
from raw_catalogue import save_model

from estitchup_pl import EmbeddingClassifier
from estitchup_pl.data import IdSplit
from estitchup_pl.data.trained_rows import digest_ids
from estitchup_pl.model import read_checkpoint
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.labels import StoreLabels

KINDS = {"axe": "a", "bow": "b", "cup": "c", "dye": "d", "egg": "e"}
NEW = "egg"
CHECKPOINTS = [f"runs/version_{number}/checkpoints/last.ckpt" for number in range(3)]
QUIET = (
    "--trainer.enable_progress_bar false --trainer.enable_model_summary false --trainer.devices 1 --data.batch_size 16 "
    "--trainer.accelerator cpu --trainer.max_epochs 24 --model.network.hidden [32] --model.scaling standardize"
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(tmp_path, monkeypatch, capfd)


def kind_of(number: int) -> str:
    return list(KINDS)[number % len(KINDS)]


def write_products(count: int, labelled: int) -> None:
    """Products, of which the first ones are labelled; nobody has thought of eggs yet."""
    with Path("products.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "kind", "name"])
        for number in range(count):
            kind = kind_of(number)
            label = kind if number < labelled and kind != NEW else ""
            table.writerow([f"p{number}", label, KINDS[kind] * (3 + number % 7)])


def test_the_next_day_takes_three_commands_and_no_test_row_moves(run: Run, tmp_path: Path) -> None:
    encoder = {"class_path": "TextEmbedder", "init_args": {"model": save_model(tmp_path / "bert"), "layers": [-1]}}
    items = {"class_path": "TableFile", "init_args": {"path": "products.csv"}}
    modalities = {"name": {"column": "name", "embedder": encoder}}
    recipe = {"out": "store", "items": items, "label": "kind", "modalities": modalities, "accelerator": "cpu"}
    Path("embed.yaml").write_text(yaml.safe_dump(recipe))
    write_products(150, labelled=110)

    def done(*words: object) -> str:
        status, output, errors = run(*words)
        assert status == 0, errors
        return output + errors

    done("embed", "--config", "embed.yaml")
    fit = ("fit", "--data.store", "store", *QUIET.split())
    split = "--data.split.split IdSplit --data.split.split.train_fraction 0.8 --data.split.held_out 1"
    done(*fit, "--data.split", "ThresholdSplit", *split.split(), "--config", "threshold/fit")
    decided = f"--config threshold/take_over --trainer.callbacks.checkpoint {CHECKPOINTS[0]}"
    done(*fit, *["--data.split", "IdSplit", "--data.split.train_fraction", "0.8"], *decided.split())
    before, old = EmbeddingStore.open("store"), read_checkpoint(CHECKPOINTS[1])
    tested = IdSplit().assign(before, StoreLabels.read(before)).test
    test_ids = before.column("id").take(tested).to_pylist()
    embedded = before.gather(np.arange(len(before)))
    assert len(tested) > 10

    write_products(200, labelled=110)
    eggs = [number for number in range(110) if kind_of(number) == NEW]
    answered = [*eggs[:12], 111, 112, 113, 115, 151, 152, 153, 155]
    with Path("answers.csv").open("w") as file:
        file.write("id,label\n" + "".join(f"p{number},{kind_of(number)}\n" for number in answered))
    done("embed", "--config", "embed.yaml")
    assert "20 labels new, 0 changed, 0 confirmed, 1 class new" in done("labels", "store", "answers.csv", "--apply")
    done("fit", "--config", "runs/version_1/config.yaml", "--warm_start", CHECKPOINTS[1])

    after, new = EmbeddingStore.open("store"), read_checkpoint(CHECKPOINTS[2])
    np.testing.assert_array_equal(after.gather(np.arange(150)), embedded)
    assert len(after) == 200
    row_of = {name: row for row, name in enumerate(after.column("id").to_pylist())}
    still = np.array([row_of[name] for name in test_ids])
    parts = IdSplit().assign(after, StoreLabels.read(after))
    assert np.isin(still, parts.test).all()
    assert not np.isin(digest_ids(after, still), new["trained_on"]["digests"].numpy()).any()
    assert len(new["trained_on"]["digests"]) == len(parts.train) > len(old["trained_on"]["digests"])
    assert new["decision"]["threshold"] == old["decision"]["threshold"] > 0
    done("test", "--ckpt_path", CHECKPOINTS[2], "--data.store", "store")

    models = [EmbeddingClassifier.load_from_checkpoint(path) for path in CHECKPOINTS[1:]]
    said_of = [model.predict(after.gather(still)).predicted for model in models]
    agreed = [first == second for first, second in zip(*said_of, strict=True)]
    assert np.mean(agreed) > 0.8
    others = [row for row in range(200) if kind_of(row) == NEW and row not in parts.train]
    likeliest = models[1].predict_proba(after.gather(others)).argmax(dim=1).tolist()
    assert np.mean([models[1].class_names[place] == NEW for place in likeliest]) > 0.9

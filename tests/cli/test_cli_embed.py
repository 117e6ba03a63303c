"""`estitchup embed` as a user types it: from the raw fashion folder to a fit, own encoders, and wrong calls."""

from __future__ import annotations

import sys
from functools import wraps
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
from commands import Run, runner
from raw_catalogue import picture, save_model, write_fashion

from estitchup_pl.cli.embed import embed_parser
from estitchup_pl.embed import embed_items
from estitchup_pl.store import EmbeddingStore

CONFIGS = Path(__file__).parents[2] / "configs"
FASHION = str(CONFIGS / "embed" / "fashion.yaml")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(tmp_path, monkeypatch, capfd)


def small_encoders(folder: Path) -> list[str]:
    """Options that put small encoders in the place of the recipe's, which nobody can download here."""
    bert = save_model(folder / "bert")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_efficientnet").state_dict(), folder / "weights.pth")
    options = {
        "title.embedder.init_args.model": bert,
        "description.embedder.init_args.model": bert,
        "image.embedder.init_args.model": "test_efficientnet",
        "image.embedder.init_args.checkpoint": folder / "weights.pth",
    }
    device = ["--accelerator", "cpu", "--devices", "1"]
    return [*device, *(word for name, value in options.items() for word in (f"--modalities.{name}", str(value)))]


def more_products(root: Path, count: int) -> None:
    """Add products of two types, with pictures."""
    with (root / "styles.csv").open("a", encoding="utf-8") as file:
        for number in range(1000, 1000 + count):
            kind = 289 + 8 * (number % 2)
            file.write(f"{number},Men,Apparel,Topwear,Shirts,Blue,Fall,2011,Casual,Shirt {'ab'[number % 2] * 9}\n")
            (root / "styles" / f"{number}.json").write_text(f'{{"data": {{"productTypeId": {kind}}}}}')
            (root / "images" / f"{number}.jpg").write_bytes(picture(number, form="JPEG"))


def test_from_the_raw_fashion_files_to_a_fit_as_the_docs_say(run: Run, tmp_path: Path) -> None:
    more_products(write_fashion(tmp_path / "data" / "fashion-dataset"), 40)
    status, output, errors = run("embed", "--config", FASHION, *small_encoders(tmp_path))
    assert status == 0, errors
    assert output.splitlines()[0].split(": ")[1].startswith("44 items; ")
    counts = {line.split()[0]: [int(count) for count in line.split()[1:]] for line in output.splitlines()[2:]}
    assert counts == {"title": [44, 0, 0, 0, 0], "description": [1, 43, 0, 0, 0], "image": [43, 1, 0, 0, 0]}
    store = EmbeddingStore.open(tmp_path / "stores" / "fashion")
    store.verify()
    assert {name: info.dim for name, info in store.modalities.items()} == {"title": 24, "description": 24, "image": 256}
    assert store.items["label"].to_pylist()[:4] == ["289", "597", None, "289"]

    status, _, errors = run(
        *("fit", "--config", CONFIGS / "data" / "fashion.yaml", "--config", CONFIGS / "method" / "e_stitchup.yaml"),
        *("--data.split.train_fraction", "0.5", "--trainer.max_epochs", "1", "--trainer.devices", "1"),
        *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
    )
    assert status == 0, errors


def test_the_recipe_can_be_pointed_at_another_folder(run: Run, tmp_path: Path) -> None:
    write_fashion(tmp_path / "elsewhere")
    options = ["--items.root", "elsewhere", "--out", "here", *small_encoders(tmp_path)]
    assert run("embed", "--config", FASHION, *options)[0] == 0
    assert len(EmbeddingStore.open(tmp_path / "here")) == 4


OWN = """
import torch
from estitchup_pl.embed import Embedder

class Lengths(Embedder):
    dim = 2

    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.scale = scale

    def prepare(self, value):
        if not isinstance(value, str):
            raise TypeError("no text")
        return value

    def embed(self, batch):
        return torch.tensor([[len(text), self.scale] for text in batch])
"""

OWN_CONFIG = """
out: store
items: {class_path: TableFile, init_args: {path: items.csv}}
modalities:
  title: {column: title, embedder: {class_path: own_encoder.Lengths, init_args: {scale: 3}}}
accelerator: cpu
devices: 1
"""


def write_own(folder: Path, config: str = OWN_CONFIG) -> str:
    (folder / "configs").mkdir(exist_ok=True)
    (folder / "configs" / "own_encoder.py").write_text(OWN)
    (folder / "configs" / "own.yaml").write_text(config)
    (folder / "items.csv").write_text("id,title\n1,abc\n2,a\n")
    return str(folder / "configs" / "own.yaml")


def test_an_encoder_of_ones_own_lies_beside_its_config(run: Run, tmp_path: Path) -> None:
    config = write_own(tmp_path)
    assert run("embed", "--config", config)[0] == 0
    store = EmbeddingStore.open(tmp_path / "store")
    assert store.gather([0, 1]).tolist() == [[3, 3], [1, 3]]
    assert store.modalities["title"].encoder == "own_encoder.Lengths"

    status, _, errors = run("embed", f"--config={config}", "--modalities.title.embedder.init_args.scale", 4)
    assert (status, "embedder.scale: was 3.0, is 4.0" in errors) == (2, True)
    options = ("--modalities.title.embedder.init_args.scale", 4, "--restart")
    assert run("embed", f"--config={config}", *options)[0] == 0
    assert EmbeddingStore.open(tmp_path / "store").gather([0]).tolist() == [[3, 4]]


def test_the_devices_may_stand_in_a_section_named_as_in_other_configurations(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, object] = {}

    @wraps(embed_items)
    def record(**options: object) -> None:
        given.update(options)

    monkeypatch.setattr("estitchup_pl.cli.embed.embed_items", record)
    section = "trainer: {accelerator: cpu, devices: 1, precision: bf16-mixed}\n"
    config = write_own(tmp_path, OWN_CONFIG.replace("accelerator: cpu\ndevices: 1\n", section))
    assert run("embed", "--config", config, "--num_nodes", 2)[0] == 0
    expected = {"accelerator": "cpu", "devices": 1, "precision": "bf16-mixed", "num_nodes": 2, "strategy": "auto"}
    assert {name: given[name] for name in expected} == expected
    assert "trainer" not in given


def test_new_items_are_added_and_a_broken_one_is_named(run: Run, tmp_path: Path) -> None:
    config = write_own(tmp_path)
    assert run("embed", "--config", config)[0] == 0
    (tmp_path / "items.csv").write_text("id,title\n1,abc\n2,a\n3,ab\n")
    status, output, _ = run("embed", "--config", config)
    assert (status, output.split("; ")[1].split(" ")[0]) == (0, "1")
    pq.write_table(pa.table({"id": [1], "title": pa.array([7])}), tmp_path / "numbers.parquet")
    options = ("--items.path", "numbers.parquet", "--out", "other")
    status, _, errors = run("embed", "--config", config, *options)
    assert status == 1
    assert errors.splitlines()[-1].startswith("error: modality 'title', row 0 (id '1'): TypeError: no text. ")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (("own_encoder.Lengths", "own_encoder.Length"), [], "no class 'Length' in own_encoder; did you mean 'Lengths'"),
        (("own_encoder.Lengths", "TextEmbeder"), [], "no class 'TextEmbeder'; did you mean 'TextEmbedder'"),
        (("class_path: TableFile", "class_path: TabelFile"), [], "no class 'TabelFile'; did you mean 'TableFile'"),
        (("scale:", "scael:"), [], "Lengths has no argument 'scael'; did you mean 'scale'"),
        (("column:", "colum:"), [], "no argument 'colum'; did you mean 'column'"),
        (("devices:", "device:"), [], "no option 'device'; did you mean 'devices'"),
        (("out:", "outt:"), [], "own.yaml, line 2: there is no option 'outt'; did you mean 'out'"),
        (
            ("store", "store"),
            ["--rows_per", "8"],
            "there is no option --rows_per; did you mean '--rows_per_shard'",
        ),
        (("store", "store"), ["--device", "8"], "--device; did you mean '--devices'"),
        (("store", "store"), ["--rest"], "--rest; did you mean '--restart'"),
        (("store", "store"), ["--on_error", "skip"], "on_error"),
        (("store", "store"), ["--config", "gone.yaml"], "--config gone.yaml: there is no such file"),
        (("items.csv", "item.csv"), [], "there is no file or folder item.csv"),
        (("column: title", "column: titel"), [], "no column 'titel'; did you mean 'title'"),
        (("devices: 1", "strategy: fsdp"), [], "fsdp"),
        (("devices: 1", "devices: 0"), [], "Fabric cannot work with accelerator 'cpu', devices 0"),
        (("devices: 1", "precision: 8"), [], "line 7: expected one of 32-true, 16-mixed"),
    ],
)
def test_wrong_calls_are_answered_with_the_nearest_name_and_leave_nothing_behind(
    run: Run, tmp_path: Path, change: tuple[str, str], options: list[str], message: str
) -> None:
    status, _, errors = run("embed", "--config", write_own(tmp_path, OWN_CONFIG.replace(*change)), *options)
    assert status == 2
    assert message in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "store" / "store.json").exists()


def test_the_parser_does_not_import_the_encoders_libraries_and_offers_what_concerns_embedding(run: Run) -> None:
    loaded_before = {name for name in ("transformers", "timm") if name in sys.modules}
    text = embed_parser().format_help()
    assert {name for name in ("transformers", "timm") if name in sys.modules} == loaded_before
    for option in ("accelerator", "devices", "num_nodes", "strategy", "precision"):
        assert f"--{option}" in text


def test_every_recipe_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for recipe in (CONFIGS / "embed").glob("*.yaml"):
        options = embed_parser().parse_args(["--config", str(recipe)])
        assert options.modalities
    assert np.array(options.modalities["title"].embedder.init_args.layers).tolist() == [-1, -2]

"""A store says how new items are embedded alike, and nothing else is taken for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from raw_catalogue import picture, save_model
from toys import Letters, embed_on_cpu, write_table

from estitchup_pl.embed import ImageEmbedder, Modality, TextEmbedder, modality_of, moved_recipe, refuse_other_recipe
from estitchup_pl.errors import CheckpointError, ConfigError
from estitchup_pl.store import EmbeddingStore

TEXTS = ["abc", "a longer text", "<b>bold</b>"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingStore:
    folder = tmp_path_factory.mktemp("embedded")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_efficientnet").state_dict(), folder / "weights.pth")
    for number in range(3):
        (folder / f"{number}.png").write_bytes(picture(number))
    text = TextEmbedder(save_model(folder / "bert"), layers=[-1, -2], pooling="first", strip_markup=True, max_length=6)
    image = ImageEmbedder("test_efficientnet", str(folder / "weights.pth"), data_config={"input_size": [3, 64, 64]})
    modalities = {
        "title": Modality("name", text, dtype="float32"),
        "photo": Modality("number", image, str(folder), pattern="{}.png"),
    }
    table = write_table(folder / "items.parquet", {"sku": [7, 8, 9], "name": TEXTS, "number": [0, 1, 2]})
    embed_on_cpu(folder / "store", table, modalities, "sku")
    return EmbeddingStore.open(folder / "store")


def test_new_items_are_embedded_as_the_old_ones_were(store: EmbeddingStore, tmp_path: Path) -> None:
    recipes = {name: info.recipe for name, info in store.modalities.items()}
    assert {recipe["id"] for recipe in recipes.values()} == {"sku"}
    made = {name: modality_of(name, recipe) for name, recipe in recipes.items()}
    table = write_table(tmp_path / "again.parquet", {"sku": [9, 8], "name": TEXTS[:0:-1], "number": [2, 1]})
    embed_on_cpu(tmp_path / "store", table, made, "sku", same_as=recipes)
    again = EmbeddingStore.open(tmp_path / "store")
    for name in store.modalities:
        assert np.array_equal(again.gather([0, 1], [name]), store.gather([2, 1], [name]))
    assert again.modalities == store.modalities
    assert again.ids.to_pylist() == [9, 8]


def test_weights_that_have_moved_are_known_again_and_others_refused(store: EmbeddingStore, tmp_path: Path) -> None:
    recipe = store.modalities["title"].recipe
    moved = modality_of("title", moved_recipe(recipe, text_encoder=save_model(tmp_path / "moved")))
    moved.embedder.load()
    refuse_other_recipe("title", recipe, moved)
    with torch.no_grad():
        next(iter(moved.embedder.model.parameters()))[0] += 1
    with pytest.raises(CheckpointError, match=r"modality 'title': the weights of the encoder .*moved are not those"):
        refuse_other_recipe("title", recipe, moved)


def test_other_settings_with_the_same_weights_are_refused(store: EmbeddingStore) -> None:
    recipe = store.modalities["title"].recipe
    other = modality_of("title", {**recipe, "embedder": {**recipe["embedder"], "pooling": "mean"}})
    other.embedder.load()
    with pytest.raises(CheckpointError, match="pooling of the encoder is 'mean', and was 'first'"):
        refuse_other_recipe("title", recipe, other)


def test_no_class_is_imported_on_a_checkpoints_word() -> None:
    recipe = {"id": "id", "root": None, "column": "title", "pattern": None, "dtype": "float16"}
    known = modality_of("title", {**recipe, "embedder": {"class": "toys.Letters", "gain": 3.0}})
    assert isinstance(known.embedder, Letters)
    assert known.embedder.gain == 3
    for path in ("antigravity.Encoder", "estitchup_pl.embed.text.Encoder", "estitchup_pl.embed.text.TextEmbedder.x"):
        with pytest.raises(ConfigError, match=f"embedded by {path}, a class of your own"):
            modality_of("title", {**recipe, "embedder": {"class": path}})


def test_only_new_items_of_a_model_may_all_lack_a_modality(store: EmbeddingStore, tmp_path: Path) -> None:
    recipes = {"title": store.modalities["title"].recipe}
    table = write_table(tmp_path / "empty.parquet", {"sku": [1], "name": [" "]})
    embed_on_cpu(tmp_path / "store", table, {"title": modality_of("title", recipes["title"])}, "sku", same_as=recipes)
    assert EmbeddingStore.open(tmp_path / "store").column("has_title").to_pylist() == [False]

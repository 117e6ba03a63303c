"""Image embeddings against timm's own forward; real pictures through real weights name their category."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from raw_catalogue import picture
from toys import embed_on_cpu, write_table

from estitchup_pl.embed import ImageEmbedder, Modality, Prepared, average_pool
from estitchup_pl.embed.pictures import read_picture
from estitchup_pl.errors import ConfigError
from estitchup_pl.store import EmbeddingStore


def loaded(model: str, **options: object) -> ImageEmbedder:
    torch.manual_seed(0)
    embedder = ImageEmbedder(model, pretrained=False, **options)
    embedder.load()
    return embedder


def embed(embedder: ImageEmbedder, values: list[bytes]) -> torch.Tensor:
    prepared = [entry.data for entry in embedder.prepare_many(values) if isinstance(entry, Prepared)]
    with torch.inference_mode():
        return embedder.embed(embedder.collate(prepared))


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
def test_average_pooling_is_the_mean_over_every_place(batch: int, channels: int, height: int, width: int) -> None:
    features = torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(0))
    expected = torch.tensor(
        [
            [sum(float(v) for v in features[row, channel].flatten()) / (height * width) for channel in range(channels)]
            for row in range(batch)
        ]
    )
    torch.testing.assert_close(average_pool(features), expected)
    torch.testing.assert_close(average_pool(features.permute(0, 2, 3, 1), channels_last=True), expected)


def test_efficientnet_b4_at_its_true_size_gives_the_1792_averages_of_its_last_convolution() -> None:
    embedder = loaded("efficientnet_b4")
    assert embedder.dim == 1792
    values = [picture(row, (400, 300)) for row in range(2)]
    maps = []
    last = embedder.model.bn2.register_forward_hook(lambda module, inputs, output: maps.append(output))
    embeddings = embed(embedder, values)
    last.remove()

    config = timm.data.resolve_model_data_config(embedder.model)
    transform = timm.data.create_transform(**config, is_training=False)
    images = torch.stack([transform(Image.open(io.BytesIO(value)).convert("RGB")) for value in values])
    assert images.shape[1:] == (3, *config["input_size"][1:])
    with torch.inference_mode():
        model = embedder.model.to(memory_format=torch.contiguous_format)
        expected = model.forward_features(images).mean(dim=(2, 3))
    torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(maps[0].mean(dim=(2, 3)), expected, atol=1e-5, rtol=1e-5)
    assert maps[0].shape[1] == 1792


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "swin_s3_tiny_224"])
def test_feature_maps_of_any_layout_are_averaged(name: str) -> None:
    embedder = loaded(name)
    embeddings = embed(embedder, [picture()])
    assert embeddings.shape == (1, embedder.dim)
    with torch.inference_mode():
        features = embedder.model.forward_features(embed_input(embedder))
    axes = (1, 2) if getattr(embedder.model, "output_fmt", "NCHW") == "NHWC" else (2, 3)
    torch.testing.assert_close(embeddings, features.mean(dim=axes))


def embed_input(embedder: ImageEmbedder) -> torch.Tensor:
    return embedder.collate([embedder.prepare(picture())])


def test_vision_transformers_go_through_their_head() -> None:
    with pytest.raises(ConfigError, match=r"'test_vit' has no feature map to average.*Set pooling: head"):
        embed(loaded("test_vit"), [picture()])
    embedder = loaded("test_vit", pooling="head")
    with torch.inference_mode():
        expected = embedder.model.forward_head(embedder.model.forward_features(embed_input(embedder)), pre_logits=True)
    torch.testing.assert_close(embed(embedder, [picture()]), expected)
    assert embedder.dim == expected.shape[1]


@pytest.mark.parametrize(
    ("mode", "form"), [("L", "PNG"), ("P", "BMP"), ("CMYK", "JPEG"), ("YCbCr", "JPEG"), ("1", "BMP")]
)
def test_pictures_of_any_kind_are_read_as_rgb(mode: str, form: str) -> None:
    value = picture(mode=mode, form=form)
    embedder = loaded("test_resnet")
    expected = embedder._transform(Image.open(io.BytesIO(value)).convert("RGB"))
    torch.testing.assert_close(embedder.prepare(value), expected)


def saved(shown: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    shown.save(file, form, **options)
    return file.getvalue()


TURNED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,  # the camera's: to be shown turned by 90 degrees clockwise
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", TURNED)
def test_a_picture_is_turned_as_its_orientation_says(orientation: int) -> None:
    upright = Image.open(io.BytesIO(picture()))
    turn, exif = TURNED[orientation], Image.Exif()
    exif[0x0112] = orientation
    stored = saved(upright if turn is None else upright.transpose(turn), exif=exif)
    np.testing.assert_array_equal(read_picture(stored), upright)
    embedder = loaded("test_resnet")
    torch.testing.assert_close(embed(embedder, [stored]), embed(embedder, [picture()]))


SHADES = np.arange(256, dtype=np.uint8).reshape(8, 32)


@pytest.mark.parametrize(
    ("pixels", "form"),
    [
        (SHADES.astype(np.uint16) * 257, "PNG"),
        (np.minimum(SHADES.astype(np.uint32) * 257 + 100, 65535).astype(np.uint16), "TIFF"),
        (SHADES.astype(np.int32) * 257, "TIFF"),
        (SHADES.astype(np.float32) / 255, "TIFF"),
        (SHADES.astype(np.float32), "TIFF"),
        (SHADES.astype(np.float32) * 257, "TIFF"),
    ],
)
def test_more_than_eight_bits_are_scaled_and_not_cut_off(pixels: np.ndarray, form: str) -> None:
    shown = read_picture(saved(Image.fromarray(pixels), form))
    assert shown.mode == "RGB"
    np.testing.assert_array_equal(shown, np.stack([SHADES] * 3, axis=-1))


@pytest.mark.parametrize("value", [-1.0, 70000.0, np.nan, np.inf])
def test_values_that_are_no_shades_are_broken(value: float) -> None:
    pixels = np.full((4, 4), value, np.float32)
    (result,) = loaded("test_resnet").prepare_many([saved(Image.fromarray(pixels), "TIFF")])
    assert "Convert it to 8 or 16 bits" in str(result)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_over_white(mode: str) -> None:
    pixels = np.zeros((2, 4, 4), np.uint8)
    pixels[..., 3] = [[0, 255, 0, 255], [255, 0, 255, 0]]
    black = Image.fromarray(pixels, "RGBA")
    content = saved(black.convert(mode) if mode != "P" else black.quantize(4))
    np.testing.assert_array_equal(read_picture(content), np.stack([255 - pixels[..., 3]] * 3, axis=-1))
    pixels[..., 3] = 51  # a fifth of black over four fifths of white
    assert read_picture(saved(Image.fromarray(pixels, "RGBA"))).getpixel((0, 0)) == (204, 204, 204)


def test_what_is_no_picture_is_told_apart_and_paths_without_a_root_are_explained() -> None:
    embedder = loaded("test_resnet")
    truncated = picture(size=(200, 200), form="JPEG")[:3000]
    results = embedder.prepare_many([picture(), b"no picture", truncated, 7])
    assert [isinstance(entry, Exception) for entry in results] == [False, True, True, True]
    assert "cannot identify" in str(results[1])
    assert "truncated" in str(results[2])
    assert "expected the bytes of an image file, got int" in str(results[3])
    with pytest.raises(ConfigError, match=r"'a\.jpg'.*root"):
        embedder.prepare("a.jpg")


def test_pictures_from_a_folder_a_zip_and_a_binary_column_are_the_same(tmp_path: Path) -> None:
    values = [picture(row) for row in range(6)]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for row, value in enumerate(values):
            archive.writestr(f"pictures/{row}.png", value)
            (tmp_path / "pictures").mkdir(exist_ok=True)
            (tmp_path / "pictures" / f"{row}.png").write_bytes(value)
    paths = [f"pictures/{row}.png" for row in range(6)]
    cells = [{"bytes": value, "path": "x.png"} for value in values]
    items = write_table(
        tmp_path / "items.parquet",
        {
            "id": range(6),
            "path": paths,
            "absolute": [str(tmp_path / path) for path in paths],
            "bytes": values,
            "cell": cells,
        },
    )
    sources = {
        "folder": {"column": "path", "root": str(tmp_path)},
        "zip": {"column": "path", "root": str(tmp_path / "all.zip")},
        "pattern": {"column": "id", "root": str(tmp_path), "pattern": "pictures/{}.png"},
        "absolute": {"column": "absolute", "root": str(tmp_path)},
        "binary": {"column": "bytes"},
        "cell": {"column": "cell"},
    }
    embedder = loaded("test_resnet")
    (tmp_path / "weights.pth").write_bytes(b"")
    torch.save(embedder.model.state_dict(), tmp_path / "weights.pth")
    modalities = {
        name: Modality(embedder=ImageEmbedder("test_resnet", str(tmp_path / "weights.pth")), batch_size=4, **source)
        for name, source in sources.items()
    }
    embed_on_cpu(tmp_path / "store", items, modalities, rows_per_shard=5)
    store = EmbeddingStore.open(tmp_path / "store")
    store.verify()
    expected = embed(embedder, values).numpy()
    for name in sources:
        np.testing.assert_allclose(store.gather(np.arange(6), [name]).astype("f4"), expected, rtol=2e-3, atol=1e-3)
    assert store.items.column_names[:4] == ["id", "label", "path", "absolute"]
    assert not {"bytes", "cell"} & set(store.items.column_names)  # whole files do not belong in the item table


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize(("precision", "error"), [("32-true", 1e-3), ("16-mixed", 2e-2), ("bf16-true", 1e-1)])
def test_a_gpu_gives_the_embeddings_of_the_cpu(tmp_path: Path, precision: str, error: float) -> None:
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.pth")
    values = [picture(row) for row in range(20)]
    items = write_table(tmp_path / "items.parquet", {"id": range(20), "bytes": [*values[:10], b"broken", *values[11:]]})
    embeddings = {}
    for device, options in (("cpu", {}), ("gpu", {"accelerator": "gpu", "precision": precision})):
        modality = Modality("bytes", ImageEmbedder("test_resnet", str(tmp_path / "weights.pth")), batch_size=4)
        embed_on_cpu(tmp_path / device, items, {"image": modality}, on_error="missing", rows_per_shard=8, **options)
        embeddings[device] = EmbeddingStore.open(tmp_path / device).gather(np.arange(20)).astype("f4")
    assert not embeddings["gpu"][10].any()
    np.testing.assert_allclose(embeddings["gpu"], embeddings["cpu"], atol=error, rtol=error)


def test_missing_and_broken_pictures_are_listed(tmp_path: Path) -> None:
    for row in range(4):
        (tmp_path / f"{row}.png").write_bytes(picture(row) if row != 2 else b"broken")
    items = write_table(
        tmp_path / "items.parquet", {"id": range(6), "path": ["0.png", None, "2.png", "3.png", "4.png", "1.png"]}
    )
    torch.manual_seed(0)
    embedder = ImageEmbedder("test_resnet", pretrained=False)
    modality = Modality("path", embedder, root=str(tmp_path), batch_size=2)
    summary = embed_on_cpu(tmp_path / "store", items, {"image": modality}, on_error="missing")
    assert (summary.modalities["image"].missing, summary.modalities["image"].failed) == (1, 2)
    failures = pq.read_table(tmp_path / "store" / "failures.parquet").to_pylist()
    assert [(row["id"], row["reason"].split(" ")[0]) for row in failures] == [
        ("2", "UnidentifiedImageError:"),
        ("4", "missing"),
    ]
    assert EmbeddingStore.open(tmp_path / "store").items["has_image"].to_pylist() == [
        True,
        False,
        False,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("efficientnet_b44", {}, "timm has no 'efficientnet_b44'; did you mean 'efficientnet_b4'"),
        ("test_resnet", {"checkpoint": "gone.pth"}, "there is no file gone.pth"),
        ("test_resnet", {"data_config": {"meen": 0.5}}, "no entry 'meen'; did you mean 'mean'"),
        ("test_resnet", {"model_args": {"pad_typo": 1}}, "cannot be loaded. timm says: .*pad_typo"),
        ("test_resnet", {"pooling": "max"}, "pooling: expected average or head, got 'max'"),
    ],
)
def test_options_that_cannot_work(model: str, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loaded(model, **options)


def test_pretrained_weights_are_named_by_their_tag_and_cannot_be_had_offline() -> None:
    with pytest.raises(ConfigError, match=r"name the pretrained weights .* There are: efficientnet_b4\.ra2_in1k"):
        ImageEmbedder("efficientnet_b4").load()
    with pytest.raises(ConfigError, match=r"'test_resnet\.r160_in1k' with timm's weights.*cannot be loaded"):
        ImageEmbedder("test_resnet.r160_in1k").load()


def test_a_root_that_is_not_there_is_said_at_the_start(tmp_path: Path) -> None:
    items = write_table(tmp_path / "items.parquet", {"id": [1], "path": ["a"]})
    for root, message in (
        (tmp_path / "gone", "there is nothing at"),
        (tmp_path / "items.parquet", "neither a folder nor"),
    ):
        modality = Modality("path", ImageEmbedder("test_resnet", pretrained=False), root=str(root))
        with pytest.raises(ConfigError, match=message):
            embed_on_cpu(tmp_path / "store", items, {"image": modality})


REAL = {
    "model": "mobilenetv2_100",
    "model_args": {"pad_type": "same"},
    "data_config": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}


def test_real_pictures_equal_timms_own_forward_and_their_neighbours_name_the_category(
    fashion_dir: Path, weights_dir: Path, tmp_path: Path
) -> None:
    archive = zipfile.ZipFile(fashion_dir / "images_sample.zip")
    known = pa.array([Path(name).stem for name in archive.namelist()])
    table = pq.read_table(fashion_dir / "items.parquet", columns=["id", "master_category"])
    table = table.filter(pc.is_in(table["id"].cast(pa.string()), known))
    table = table.take(pa.array(np.sort(np.random.default_rng(0).choice(len(table), 240, replace=False))))
    checkpoint = str(weights_dir / "mobilenetv2_100.safetensors")
    modality = Modality(
        "id",
        ImageEmbedder(checkpoint=checkpoint, **REAL),
        root=str(fashion_dir / "images_sample.zip"),
        pattern="images/{}.jpg",
        batch_size=32,
        dtype="float32",
    )
    items = write_table(tmp_path / "items.parquet", table.to_pydict())
    embed_on_cpu(tmp_path / "store", items, {"image": modality})
    embeddings = EmbeddingStore.open(tmp_path / "store").gather(np.arange(240))

    model = timm.create_model("mobilenetv2_100", checkpoint_path=checkpoint, num_classes=1000, pad_type="same").eval()
    config = timm.data.resolve_data_config(REAL["data_config"], model=model)
    transform = timm.data.create_transform(**config, is_training=False)
    ids = table["id"].to_pylist()[:8]
    images = [Image.open(io.BytesIO(archive.read(f"images/{name}.jpg"))).convert("RGB") for name in ids]
    with torch.inference_mode():
        expected = model.forward_features(torch.stack([transform(image) for image in images])).mean(dim=(2, 3))
    np.testing.assert_allclose(embeddings[:8], expected.numpy(), atol=1e-4, rtol=1e-4)

    assert five_neighbours_agree(embeddings, np.array(table["master_category"].to_pylist())) >= 0.9


def five_neighbours_agree(embeddings: np.ndarray, categories: np.ndarray) -> float:
    """Share of pictures whose category is the most frequent one among their five nearest others (cosine)."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    hits = 0
    for row, nearest in enumerate(np.argsort(-similarity, axis=1)[:, :5]):
        names, votes = np.unique(categories[nearest], return_counts=True)
        hits += names[votes.argmax()] == categories[row]
    return hits / len(categories)

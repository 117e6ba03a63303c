"""What a catalogue may make `embed` read: no file outside its root, none that unpacks to more than it should."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from toys import embed_on_cpu

from estitchup_pl.embed import ImageEmbedder, Modality
from estitchup_pl.embed.modality import open_root
from estitchup_pl.embed.pictures import read_picture
from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.tables import FashionProductImages, TableFile


@pytest.mark.parametrize("name", ["../secret.txt", "a/../../secret.txt", "{root}/../secret.txt", "/etc/hostname"])
def test_files_outside_the_root_are_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "a" / "b.txt").write_text("mine")
    read = open_root(root)
    with pytest.raises(DataError, match=r"lies outside .*root, and is not read"):
        read(name.format(root=root))
    for inside in ("a/b.txt", "a/../a/b.txt", str(root / "a" / "b.txt")):
        assert read(inside) == b"mine"


def test_a_root_in_the_working_directory_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.txt").write_text("mine")
    assert open_root(".")("b.txt") == open_root(".")(str(tmp_path / "b.txt")) == b"mine"
    with pytest.raises(DataError, match="lies outside"):
        open_root(".")("../b.txt")


def test_files_are_read_up_to_a_size(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "files.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(1 << 20))
        archive.writestr("small", bytes(100))
    (tmp_path / "zeros").write_bytes(bytes(1 << 20))
    for root in (tmp_path, tmp_path / "files.zip"):
        with pytest.raises(DataError, match="file zeros has more than 1,000 bytes"):
            open_root(root, 1000)("zeros")
        assert open_root(root, 1 << 20)("zeros") == bytes(1 << 20)
    assert open_root(tmp_path / "files.zip", 100)("small") == bytes(100)


def test_an_empty_file_is_no_value(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "files.zip", "w") as archive:
        archive.writestr("a", b"")
    (tmp_path / "a").touch()
    for root in (tmp_path, tmp_path / "files.zip"):
        with pytest.raises(DataError, match="file a is empty"):
            open_root(root)("a")


def test_a_zip_file_whose_contents_are_damaged_is_told(tmp_path: Path) -> None:
    (tmp_path / "files.zip").write_bytes(b"PK\x05\x06" + b"\xff" * 18)
    with pytest.raises(ConfigError, match="neither a folder nor a readable zip file"):
        open_root(tmp_path / "files.zip")


def picture(width: int, height: int) -> bytes:
    content = io.BytesIO()
    Image.new("1", (width, height)).save(content, "png")
    return content.getvalue()


def test_a_picture_is_decoded_up_to_a_number_of_pixels() -> None:
    assert len(picture(8_000, 8_000)) < 20_000
    with pytest.raises(DataError, match="a picture of 8000 x 8000 pixels, more than 50,000,000"):
        read_picture(picture(8_000, 8_000))
    assert read_picture(picture(30, 20), max_pixels=600).size == (30, 20)
    with pytest.raises(DataError, match="more than 599"):
        read_picture(picture(30, 20), max_pixels=599)


def test_what_is_too_large_is_its_items_failure(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    (tmp_path / "small.png").write_bytes(picture(30, 20))
    (tmp_path / "large.png").write_bytes(picture(50, 40))
    (tmp_path / "long.png").write_bytes(picture(30, 20) + bytes(10_000))
    pq.write_table(
        pa.table({"id": list("abcd"), "p": ["small.png", "large.png", "long.png", "../small.png"]}),
        tmp_path / "t.parquet",
    )
    encoder = ImageEmbedder("test_vit.r160_in1k", pretrained=False, pooling="head", max_pixels=1_000)
    modality = Modality("p", encoder, root=str(tmp_path), max_bytes=5_000)
    embed_on_cpu(tmp_path / "store", TableFile(tmp_path / "t.parquet"), {"p": modality}, on_error="missing")
    failures = pq.read_table(tmp_path / "store" / "failures.parquet").to_pylist()
    assert [failure["id"] for failure in failures] == ["b", "c", "d"]
    for failure, said in zip(failures, ("max_pixels", "max_bytes", "lies outside"), strict=True):
        assert said in failure["reason"]
    with pytest.raises(ConfigError, match="max_pixels: expected at least 1"):
        ImageEmbedder(max_pixels=0)
    with pytest.raises(ConfigError, match="max_bytes: expected at least 1"):
        Modality("p", encoder, max_bytes=0)


def test_ids_of_the_fashion_data_name_no_files_elsewhere(tmp_path: Path) -> None:
    header = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName\n"
    for name in ("styles", "images"):
        (tmp_path / name).mkdir()
    (tmp_path / "styles.csv").write_text(header + "../../etc/x,Men,A,B,C,Red,Fall,2011,Casual,Shirt\n")
    with pytest.raises(DataError, match=r"styles\.csv, line 2: expected an id of letters and digits"):
        list(FashionProductImages(tmp_path).batches())
    (tmp_path / "styles.csv").write_text(header + "15,Men,A,B,C,Red,Fall,2011,Casual,\n")
    (tmp_path / "styles/15.json").write_text('{"data": {"productDisplayName": "\\ud800"}}')
    with pytest.raises(DataError, match=r"styles\.csv, line 2: .*half a character"):
        list(FashionProductImages(tmp_path).batches())

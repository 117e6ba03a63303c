"""The Fashion Product Images set as Kaggle delivers it."""

from __future__ import annotations

from pathlib import Path

import pytest
from raw_catalogue import write_fashion
from saved_rows import items_of

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.tables import FashionProductImages


def test_fashion_product_images_as_users_download_them(tmp_path: Path) -> None:
    table = items_of(FashionProductImages(write_fashion(tmp_path)))
    assert table[1] == {
        "id": "39386",
        "product_type": "597",
        "title": "Peter England, Men Party, Blue Jeans",
        "description": None,
        "gender": "Men",
        "master_category": "Apparel",
        "sub_category": "Bottomwear",
        "article_type": "Jeans",
        "base_colour": "Blue",
        "season": "Summer",
        "year": "2012",
        "usage": "Casual",
        "image": None,
    }
    assert [row["product_type"] for row in table] == ["289", "597", None, "289"]
    assert table[0]["description"] == "<p>Blue &amp; white</p>"
    assert [row["image"] for row in table] == ["images/15970.jpg", None, "images/7.jpg", "images/8.jpg"]
    assert (table[2]["base_colour"], table[2]["usage"], table[3]["title"]) == (None, None, "Baggit Red Bag")


def test_a_fashion_folder_that_is_incomplete_or_damaged_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lacks styles\.csv.*paramaggarwal/fashion-product-images-dataset"):
        FashionProductImages(tmp_path)
    root = write_fashion(tmp_path / "fashion")
    (root / "styles" / "8.json").write_text("{")
    with pytest.raises(DataError, match=r"8\.json: not JSON"):
        items_of(FashionProductImages(root))
    with (root / "styles.csv").open("a") as file:
        file.write("9,Women\n")
    (root / "styles" / "8.json").unlink()
    with pytest.raises(DataError, match=r"styles\.csv, line 6: expected 10 fields, got 2"):
        items_of(FashionProductImages(root))
    (root / "styles.csv").write_text("")
    with pytest.raises(DataError, match=r"styles\.csv, line 1: expected a column 'articleType'"):
        items_of(FashionProductImages(root))
    header = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName\n"
    (root / "styles.csv").write_bytes(header.encode() + b"7,Women,a,b,c,d,e,2011,f,caf\xe9\n")
    with pytest.raises(DataError, match=r"styles\.csv, line 2: not UTF-8"):
        items_of(FashionProductImages(root))

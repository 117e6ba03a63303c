"""Texts and pictures of items on the page: of the right item, small, and only where they are there."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from made_study import HOSTILE
from PIL import Image

from estitchup_pl.errors import ConfigError
from estitchup_pl.report.explorer import explorer
from estitchup_pl.report.items import ShownItems, shown_items
from estitchup_pl.report.runs import StudyRuns
from estitchup_pl.store import EmbeddingStore

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]


def store_of(**columns: pa.Array) -> EmbeddingStore:
    rows = len(next(iter(columns.values())))
    ids = pa.array([f"item-{row}" for row in range(rows)])
    table = pa.table({"id": ids, "label": pa.array(["x"] * rows), **columns})
    return EmbeddingStore.from_arrays(table, {"x": np.ones((rows, 2), "float32")})


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (400, 200)) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size, colour).save(content, "PNG")
    return content.getvalue()


def decoded(address: str) -> Image.Image:
    kind, _, content = address.partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_paths_of_pictures_are_read_from_the_root_and_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    for row in (0, 2):
        (tmp_path / f"{row}.png").write_bytes(picture(COLOURS[row]))
    (tmp_path / "1.png").write_bytes(b"no picture")
    files = pa.array(["0.png", "1.png", "2.png", "lost.png", None])
    items = ShownItems(store_of(name=pa.array(["a", "b", None, "d", None]), file=files), tmp_path)
    assert (items.texts, items.picture) == (["name"], "file")
    shown = {item: tuple(rest) for item, *rest in items.of([f"item-{row}" for row in (2, 0, 1, 3, 4)])}
    texts = {item: text for item, (text, _) in shown.items()}
    assert texts == {"item-2": "", "item-0": "a", "item-1": "b", "item-3": "d"}
    for row in (0, 2):
        small = decoded(shown[f"item-{row}"][1])
        assert small.size == (96, 48)
        assert np.allclose(small.getpixel((48, 24)), COLOURS[row], atol=12)
    assert shown["item-1"][1] == shown["item-3"][1] == ""
    (tmp_path / "inner").mkdir()
    assert ShownItems(store_of(file=pa.array(["../0.png"])), tmp_path / "inner").of(["item-0"]) == []


def test_pictures_in_the_store_are_shown_and_long_texts_are_cut() -> None:
    cells = pa.array([picture(colour) for colour in COLOURS], pa.binary())
    items = ShownItems(store_of(photo=cells, name=pa.array(["n" * 500] * 3), more=pa.array(["m", "", "m"])))
    (one,) = items.of(["item-1"])
    assert one[0] == "item-1"
    assert len(one[1]) == 120
    assert np.allclose(decoded(one[2]).getpixel((10, 10)), COLOURS[1], atol=12)


def test_a_page_has_no_more_pictures_than_it_may_those_that_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("estitchup_pl.report.items.MOST_PICTURES", 2)
    items = ShownItems(store_of(photo=pa.array([picture(colour) for colour in COLOURS], pa.binary())))
    assert [item for item, _, _ in items.of(["item-2", "item-0", "item-2", "item-1"])] == ["item-2", "item-0"]


def test_the_page_names_the_items_that_it_shows_by_their_ids(runs: StudyRuns) -> None:
    ids = runs.runs["Control", 0].ids.to_pylist()
    table = pa.table({"id": ids, "label": ["x"] * len(ids), "name": [f"name of {item}" for item in ids]})
    store = EmbeddingStore.from_arrays(table, {"x": np.ones((len(ids), 2), "float32")})
    data = explorer(runs, ShownItems(store))
    texts = {item: text for item, text, _ in data["items"]}
    examples = {entry[0] for method in data["methods"] for entry in method["examples"][0]}
    assert examples <= texts.keys()
    assert all(text == f"name of {item}"[:120] or text.endswith("…") for item, text in texts.items())
    assert any(HOSTILE in text for text in texts.values())
    assert explorer(runs)["items"] == []


def test_a_store_that_is_gone_is_passed_over_and_a_root_that_is_none_is_told(tmp_path: Path) -> None:
    assert shown_items({"store": str(tmp_path / "gone")}) is None
    assert shown_items({}) is None
    assert shown_items({"store": "digits"}) is not None
    with pytest.raises(ConfigError, match="expected a folder or a zip file"):
        shown_items({"store": "digits"}, tmp_path / "gone")

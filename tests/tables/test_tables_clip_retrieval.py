"""Folders that clip-retrieval writes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from estitchup_pl.errors import StoreError
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.tables import open_clip_retrieval, prepare_items


def _clip_folder(folder, parts=11, text=True):
    """Write a folder as clip-retrieval does: unpadded or padded numbers, columns that come and go."""
    rng = np.random.default_rng(0)
    written = {"key": [], "image": [], "text": []}
    for name in ("img_emb", "text_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    for number in range(parts):
        rows = int(rng.integers(1, 5))
        image, caption = (rng.normal(size=(rows, dim)).astype(np.float16) for dim in (6, 3))
        keys = [f"{number}-{row}" for row in range(rows)]
        columns = {"image_path": keys, "caption": keys, "key": keys}
        if number % 2:
            columns["width"] = [640] * rows
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", image)
        if text:
            np.save(folder / "text_emb" / f"text_emb_{number}.npy", caption)
        pq.write_table(pa.table(columns), folder / "metadata" / f"metadata_{number}.parquet")
        written["key"] += keys
        written["image"].append(image)
        written["text"].append(caption)
    return {name: values if name == "key" else np.concatenate(values) for name, values in written.items()}


def test_a_clip_retrieval_folder_is_read_in_the_order_of_its_numbers(tmp_path):
    written = _clip_folder(tmp_path / "clip")
    items, embeddings = open_clip_retrieval(tmp_path / "clip")
    assert items["key"].to_pylist() == written["key"]
    assert set(items["width"].to_pylist()) == {640, None}
    prepared = prepare_items(items, "clip", id_column="key", label_column="caption")
    store = EmbeddingStore.create(tmp_path / "store", prepared, embeddings, rows_per_shard=7)
    store.verify()
    for name in ("image", "text"):
        np.testing.assert_array_equal(store.gather(range(len(store)), [name]), written[name])


def test_a_clip_retrieval_folder_of_pictures_alone_has_one_modality(tmp_path):
    _clip_folder(tmp_path / "clip", text=False)
    assert list(open_clip_retrieval(tmp_path / "clip").embeddings) == ["image"]


def test_a_clip_retrieval_folder_that_does_not_fit_together_is_refused(tmp_path):
    folder = tmp_path / "clip"
    with pytest.raises(StoreError, match="expected a clip-retrieval folder"):
        open_clip_retrieval(folder)
    _clip_folder(folder)
    part = folder / "img_emb" / "img_emb_3.npy"
    np.save(part, np.load(part)[:-1])
    with pytest.raises(StoreError, match=r"img_emb_3\.npy: shape \(.*\), but .*metadata_3\.parquet has \d rows"):
        open_clip_retrieval(folder)
    part.unlink()
    with pytest.raises(StoreError, match="part 3 is in only one of img_emb/ and metadata/"):
        open_clip_retrieval(folder)

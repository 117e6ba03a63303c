"""Whole runs of `embed_items` with small encoders: rows in their place, failures, refusals, appending, crashes."""

from __future__ import annotations

import io
import os
import shutil
import signal
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from toys import Letters, Streamed, embed_on_cpu, expected, files, words, write_table

from estitchup_pl.embed import EmbedSummary, Modality, finish, staging
from estitchup_pl.embed.state import WORK_NAME
from estitchup_pl.errors import ConfigError, DataError, StoreError, WriteError
from estitchup_pl.locking import locked_folder
from estitchup_pl.stopping import Stopped, stoppable
from estitchup_pl.store import EmbeddingStore, relabeling
from estitchup_pl.store import label_history as history
from estitchup_pl.store.swap import WHOLE_NAME

Limit = Callable[[int], AbstractContextManager[None]]
NO_TEXT = pa.array([b"h\xfft"]).view(pa.string())


def embed(folder: Path, columns: dict, modalities: dict | None = None, **options) -> EmbedSummary:
    """Embed a table made of ``columns`` to ``folder/store``."""
    reader = write_table(folder / "items.parquet", columns)
    modalities = modalities or {"title": Modality("title", Letters(), batch_size=4, dtype="float32")}
    options = {"rows_per_shard": 16} | options
    summary = embed_on_cpu(folder / "store", reader, modalities, **options)
    assert summary is not None
    return summary


def titles(folder: Path, modality: str = "title") -> np.ndarray:
    store = EmbeddingStore.open(folder / "store")
    store.verify()
    return store.gather(np.arange(len(store)), [modality])


@pytest.mark.parametrize("encoder", [Letters, Streamed])
@pytest.mark.parametrize("rows", [1, 15, 16, 17, 100])
def test_each_row_gets_the_embedding_of_its_own_text(tmp_path: Path, encoder: type, rows: int) -> None:
    texts = words(rows)
    modalities = {"title": Modality("title", encoder(), batch_size=7, dtype="float32")}
    summary = embed(tmp_path, {"id": np.arange(rows), "title": texts}, modalities)
    np.testing.assert_allclose(titles(tmp_path), expected(texts), rtol=1e-6)
    assert (summary.rows, summary.embedded, summary.modalities["title"].embedded) == (rows, rows, rows)
    assert not (tmp_path / "store" / WORK_NAME).exists()


def test_modalities_stand_side_by_side_with_their_own_dtype_and_further_columns_are_kept(tmp_path: Path) -> None:
    texts = words(20)
    columns = {"sku": [f"0{row}" for row in range(20)], "kind": ["shoe"] * 20, "title": texts, "price": range(20)}
    modalities = {
        "reversed": Modality("title", Letters(gain=-1.0), dtype="float16"),
        "title": Modality("title", Letters(), dtype="float32"),
    }
    embed(tmp_path, columns, modalities, id="sku", label="kind")
    store = EmbeddingStore.open(tmp_path / "store")
    assert [(name, info.dtype) for name, info in store.modalities.items()] == [
        ("reversed", "float16"),
        ("title", "float32"),
    ]
    assert store.modalities["title"].encoder == "toys.Letters"
    assert store.items.column_names == ["id", "label", "sku", "kind", "title", "price", "has_reversed", "has_title"]
    assert store.items["id"].to_pylist() == columns["sku"]
    assert set(store.items["label"].to_pylist()) == {"shoe"}
    np.testing.assert_allclose(titles(tmp_path, "reversed"), expected(texts, -1.0), rtol=1e-3)


def test_equal_texts_of_a_shard_are_embedded_once_and_reach_all_their_rows(tmp_path: Path) -> None:
    texts = ["abc", "h", "abc", "abc"] * 8
    log = tmp_path / "log"
    modalities = {"title": Modality("title", Letters(log=str(log)), dtype="float32")}
    embed(tmp_path, {"id": np.arange(32), "title": texts}, modalities)
    np.testing.assert_allclose(titles(tmp_path), expected(texts), rtol=1e-6)
    assert sorted(log.read_text().split()) == ["abc", "abc", "h", "h"]  # two shards


@pytest.mark.parametrize("encoder", [Letters, Streamed])
def test_empty_values_are_missing_and_broken_ones_are_listed_with_their_reason(tmp_path: Path, encoder: type) -> None:
    texts = words(40)
    texts[3], texts[16], texts[17], texts[18], texts[39] = None, "", "broken", "nothing", "broken"
    texts[20:24] = ["nan", "x", "y", "broken"]
    modalities = {"title": Modality("title", encoder(), batch_size=4, dtype="float32")}
    summary = embed(tmp_path, {"id": np.arange(40), "title": texts}, modalities, on_error="missing")
    gone = [3, 16, 17, 18, 20, 23, 39]
    store = EmbeddingStore.open(tmp_path / "store")
    assert np.flatnonzero(~store.items["has_title"].to_numpy()).tolist() == gone
    np.testing.assert_allclose(
        titles(tmp_path), expected([None if row in gone else text for row, text in enumerate(texts)]), rtol=1e-6
    )
    report = summary.modalities["title"]
    assert (report.embedded, report.missing, report.failed) == (33, 3, 4)
    failures = pq.read_table(tmp_path / "store" / "failures.parquet").to_pylist()
    assert {(row["id"], row["modality"], row["reason"]) for row in failures} == {
        ("17", "title", "ValueError: cannot be read"),
        ("23", "title", "ValueError: cannot be read"),
        ("39", "title", "ValueError: cannot be read"),
        ("20", "title", "the encoder's output is NaN, infinite or all zero in float32"),
    }
    assert "33         3         4" in str(summary)


class Written(Letters):
    """Letters of text files."""

    def prepare(self, value: bytes) -> str:
        return value.decode()


def write_zip(
    path: Path, members: dict[str, str], fault: str | None = None, packing: int = zipfile.ZIP_DEFLATED
) -> None:
    """Write a zip file whose member ``1.txt`` is at fault."""
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    content, start = bytearray(path.read_bytes()), zipfile.ZipFile(path).getinfo("1.txt").header_offset
    entry = content.rfind(b"1.txt") - 46  # in the directory at the file's end
    if fault == "damaged":
        content[start + 35 : start + 45] = b"\xff" * 10
    elif fault is not None:  # (place in the member's header, in the directory, value), each two bytes
        local, directory, value = {"deflate64": (8, 10, 9), "encrypted": (6, 8, 1)}[fault]
        content[start + local : start + local + 2] = content[entry + directory : entry + directory + 2] = bytes(
            [value, 0]
        )
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("fault", "packing"),
    [
        ("damaged", zipfile.ZIP_STORED),
        ("damaged", zipfile.ZIP_DEFLATED),
        ("damaged", zipfile.ZIP_BZIP2),
        ("damaged", zipfile.ZIP_LZMA),
        ("deflate64", zipfile.ZIP_DEFLATED),
        ("encrypted", zipfile.ZIP_DEFLATED),
    ],
)
def test_a_member_of_a_zip_file_that_cannot_be_read_is_a_failure_of_its_item(
    tmp_path: Path, fault: str, packing: int
) -> None:
    texts = ["".join(words(20, seed)) for seed in range(3)]
    write_zip(tmp_path / "texts.zip", {f"{row}.txt": text for row, text in enumerate(texts)}, fault, packing)
    columns = {"id": ["a", "b", "c"], "file": [f"{row}.txt" for row in range(3)]}
    modalities = {"text": Modality("file", Written(), root=str(tmp_path / "texts.zip"), dtype="float32")}
    with pytest.raises(DataError, match=r"row 1 \(id 'b'\): file 1.txt in .*texts.zip cannot be read: "):
        embed(tmp_path, columns, modalities)
    report = embed(tmp_path, columns, modalities, on_error="missing").modalities["text"]
    assert (report.embedded, report.failed) == (2, 1)
    np.testing.assert_allclose(titles(tmp_path, "text"), expected([texts[0], None, texts[2]]), rtol=1e-6)


def test_a_file_that_cannot_be_read_is_a_failure_of_its_item(tmp_path: Path) -> None:
    (tmp_path / "0.txt").write_text("abc")
    (tmp_path / "folder.txt").mkdir()
    columns = {"id": range(3), "file": ["0.txt", "folder.txt", "nul\0.txt"]}
    modalities = {"text": Modality("file", Written(), root=str(tmp_path), dtype="float32")}
    assert embed(tmp_path, columns, modalities, on_error="missing").modalities["text"].failed == 2


@pytest.mark.parametrize("broken", ["broken", "nan"])
def test_a_hard_failure_names_the_item_keeps_whole_shards_and_goes_on_once_told_to(tmp_path: Path, broken: str) -> None:
    texts, log = words(40), tmp_path / "log"
    texts[33] = broken
    modalities = {"title": Modality("title", Letters(log=str(log)), batch_size=4, dtype="float32")}
    columns = {"id": [f"item-{row}" for row in range(40)], "title": texts}
    with pytest.raises(DataError, match=r"'title', row 33 \(id 'item-33'\).*on_error: missing.*Whole shards are kept"):
        embed(tmp_path, columns, modalities)
    with pytest.raises(StoreError, match="not an embedding store"):
        EmbeddingStore.open(tmp_path / "store")
    first = set(log.read_text().splitlines())
    assert set(texts[:32]) <= first
    log.unlink()
    assert embed(tmp_path, columns, modalities, on_error="missing").embedded == 8
    assert not set(log.read_text().splitlines()) & set(texts[:32])
    assert titles(tmp_path)[33].tolist() == [0.0] * 6


def test_a_modality_without_any_embedding_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'title': not one item could be embedded; the first one failed: ValueError"):
        embed(tmp_path, {"id": [1, 2], "title": ["broken", None]}, on_error="missing")
    with pytest.raises(DataError, match="the column is empty"):
        embed(tmp_path, {"id": [1, 2], "title": pa.nulls(2, pa.string())}, restart=True)


@pytest.mark.parametrize(
    ("options", "modality", "message"),
    [
        ({}, {"embedder": Letters(gain=2.0)}, r"modalities.title.embedder.gain: was 1.0, is 2.0"),
        ({}, {"embedder": Streamed()}, r"embedder.class: was 'toys.Letters', is 'toys.Streamed'"),
        ({}, {"dtype": "float16"}, r"modalities.title.dtype: was 'float32', is 'float16'"),
        ({}, {"column": "other"}, r"modalities.title.column: was 'title', is 'other'"),
        ({"rows_per_shard": 8}, {}, r"rows_per_shard: was 16, is 8"),
        ({"precision": "bf16-mixed"}, {}, r"  precision: was '32-true', is 'bf16-mixed'"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_changed_settings_are_refused_with_the_change_unless_told_to_start_anew(
    tmp_path: Path, finished: bool, options: dict, modality: dict, message: str
) -> None:
    texts = words(20)
    columns = {"id": np.arange(20), "title": texts, "other": texts}
    interrupted_or_not(tmp_path, columns, finished)
    modality = {"column": "title", "embedder": Letters(), "batch_size": 4, "dtype": "float32"} | modality
    changed = {"title": Modality(**modality)}
    what = "the store in" if finished else "the unfinished run in"
    with pytest.raises(ConfigError, match=rf"(?s){what}.*made with other settings:.*{message}.*--restart"):
        embed(tmp_path, columns, changed, **options)
    if finished:
        np.testing.assert_allclose(titles(tmp_path), expected(texts), rtol=1e-6)  # the old store is as it was
    embed(tmp_path, columns, changed, restart=True, **options)
    gain = 2.0 if message.endswith("is 2.0") else 1.0
    np.testing.assert_allclose(titles(tmp_path), expected(texts, gain), rtol=2e-2)


def interrupted_or_not(folder: Path, columns: dict, finished: bool) -> None:
    """Run to the end, or up to an error just before the store is put together."""
    if finished:
        embed(folder, columns)
    else:
        with mock.patch("estitchup_pl.embed.loop.finish", side_effect=KeyError), pytest.raises(KeyError):
            embed(folder, columns)


def test_an_unfinished_run_refuses_another_table_and_names_the_row(tmp_path: Path) -> None:
    texts = words(20)
    interrupted_or_not(tmp_path, {"id": np.arange(20), "title": texts}, finished=False)
    with pytest.raises(ConfigError, match="changed: had 20 rows, has 19"):
        embed(tmp_path, {"id": np.arange(19), "title": texts[:19]})
    changed = [*texts[:7], "another", *texts[8:]]
    with pytest.raises(ConfigError, match=r"changed: first in row 7 \(id '7'\), modality 'title'"):
        embed(tmp_path, {"id": np.arange(20), "title": changed})
    embed(tmp_path, {"id": np.arange(20), "title": texts})
    np.testing.assert_allclose(titles(tmp_path), expected(texts), rtol=1e-6)


@pytest.mark.parametrize(("old", "new"), [(16, 32), (20, 21), (20, 30), (20, 60), (5, 5)])
def test_new_items_alone_are_embedded_and_follow_the_old_ones(tmp_path: Path, old: int, new: int) -> None:
    texts, log = words(new), tmp_path / "log"
    texts[0] = "broken"
    modalities = {"title": Modality("title", Letters(log=str(log)), batch_size=4, dtype="float32")}
    embed(tmp_path, {"id": np.arange(old), "title": texts[:old]}, modalities, on_error="missing")
    before = titles(tmp_path)
    log.unlink()
    order = np.random.default_rng(0).permutation(new)  # the new table lists its items in any order
    columns = {"id": order, "title": [texts[row] for row in order], "label": [f"kind {row}" for row in order]}
    summary = embed(tmp_path, columns, modalities, on_error="missing")
    assert summary.embedded == new - old
    assert sorted(log.read_text().splitlines() if log.exists() else []) == sorted(texts[old:])
    ids = EmbeddingStore.open(tmp_path / "store").items["id"].to_pylist()
    assert ids == [*map(str, range(old)), *(str(row) for row in order if row >= old)]
    assert EmbeddingStore.open(tmp_path / "store").items["label"].to_pylist() == [f"kind {row}" for row in ids]
    after = titles(tmp_path)
    np.testing.assert_array_equal(after[:old], before)
    np.testing.assert_allclose(after, expected([None, *(texts[int(row)] for row in ids[1:])]), rtol=1e-6)
    report = summary.modalities["title"]
    assert (report.embedded, report.failed) == (new - 1, 1)
    assert pq.read_table(tmp_path / "store" / "failures.parquet")["id"].to_pylist() == ["0"]


def test_appending_refuses_damage_in_what_it_takes_over(tmp_path: Path) -> None:
    """Else a new digest would stand for it."""
    embed(tmp_path, {"id": range(20), "title": words(20)})
    table = {"id": range(24), "title": words(24)}
    out = tmp_path / "store"
    for name in (
        "embeddings/title/00001.npy",
        "items.parquet",
        "failures.parquet",
        "embed.json",
        "embed_inputs.parquet",
    ):
        whole = (out / name).read_bytes()
        (out / name).write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
        with pytest.raises(StoreError, match=f"{name}: (changed since it was written|damaged)"):
            embed(tmp_path, table)
        (out / name).write_bytes(whole)
    embed(tmp_path, table)
    assert len(titles(tmp_path)) == 24


def test_a_store_made_otherwise_in_the_place_of_an_embedded_one_is_no_longer_appended_to(tmp_path: Path) -> None:
    embed(tmp_path, {"id": range(20), "title": words(20)})
    items = EmbeddingStore.open(tmp_path / "store").items
    EmbeddingStore.create(tmp_path / "store", items, {"title": titles(tmp_path) + 1}, overwrite=True)
    with pytest.raises(ConfigError, match="is a store that `estitchup embed` did not write"):
        embed(tmp_path, {"id": range(24), "title": words(24)})


@pytest.mark.parametrize("then", ["embed", "labels"])
def test_labels_that_were_cut_off_on_their_way_into_the_store_arrive_first(tmp_path: Path, then: str) -> None:
    embed(tmp_path, {"id": range(20), "title": words(20)})
    out, swaps = tmp_path / "store", []
    with mock.patch.object(relabeling, "finish_swap", swaps.append):  # the second one never comes
        relabeling.write_labels(out, {"3": "shoe"})
    assert (out / WHOLE_NAME).exists()
    if then == "labels":
        history.apply_labels(out, {"4": "hat"}, "somebody")
        assert EmbeddingStore.open(out, verify=True).column("label").to_pylist()[3:5] == ["shoe", "hat"]
    embed(tmp_path, {"id": range(24), "title": words(24)})
    assert len(titles(tmp_path)) == 24


def test_labels_that_people_gave_stay_when_items_are_added(tmp_path: Path) -> None:
    label: list[str | None] = ["hat", None, "hat", None, "bag"]
    embed(tmp_path, {"id": range(5), "title": words(5), "kind": label}, label="kind")
    out = tmp_path / "store"
    history.apply_labels(out, {"0": "cap", "1": "shoe", "2": "shoe", "3": "glove", "4": "sack"}, "first")
    history.apply_labels(out, {"0": "hood"}, "second")
    history.apply_labels(out, {"3": "sock", "4": None}, "third")
    history.undo(out)
    label[2] = "boot"  # somebody has looked at the table as well
    embed(tmp_path, {"id": range(7), "title": words(7), "kind": [*label, "bag", None]}, label="kind")
    store = EmbeddingStore.open(out, verify=True)
    assert store.column("label").to_pylist() == ["hood", "shoe", "boot", "glove", "sack", "bag", None]
    assert len(history.label_history(out)) == 4


class Addressed(Letters):
    """Fails with a message that holds the address of an object."""

    def prepare(self, value: str) -> str:
        if value == "broken":
            raise ValueError(f"cannot identify image file {io.BytesIO()!r}")
        return value


def test_two_runs_give_the_same_failures(tmp_path: Path) -> None:
    modalities = {"title": Modality("title", Addressed(), dtype="float32")}
    embed(tmp_path, {"id": range(3), "title": ["a", "broken", "b"]}, modalities, on_error="missing")
    (failure,) = pq.read_table(tmp_path / "store" / "failures.parquet").to_pylist()
    assert failure["reason"] == "ValueError: cannot identify image file <_io.BytesIO object>"


class Interrupted(Letters):
    """Asks its own process to end when it sees a text."""

    def embed(self, batch: list[str]) -> torch.Tensor:
        if "stop" in batch:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().embed(batch)


def test_a_stop_says_how_many_shards_are_kept(tmp_path: Path) -> None:
    texts = words(40)
    texts[20] = "stop"
    modalities = {"title": Modality("title", Interrupted(), dtype="float32")}
    with stoppable(), pytest.raises(Stopped) as stop:
        embed(tmp_path, {"id": range(40), "title": texts}, modalities)
    assert stop.value.status == 143
    assert stop.value.kept.startswith("1 of 3 shards are kept in ")
    assert "00000.npy" in files(tmp_path / "store" / WORK_NAME / "embeddings" / "title")
    assert list((tmp_path / "store").iterdir()) == [tmp_path / "store" / WORK_NAME]


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    table = {"id": range(40), "title": words(40)}
    with locked_folder(tmp_path / "store"), pytest.raises(WriteError, match="store: another command is writing there"):
        embed(tmp_path, table)
    embed(tmp_path, table)


def test_a_full_disk_is_told_and_the_run_goes_on_where_it_stopped(tmp_path: Path, file_limit: Limit) -> None:
    """The limit lets the table and the first, short shard through, not the second one."""
    texts = ["a"] * 3000
    modalities = {
        "small": Modality("title", Letters(), dtype="float16"),
        "title": Modality("title", Letters(), dtype="float32"),
    }
    reader = write_table(tmp_path / "items.parquet", {"id": range(3000), "title": texts})
    run = partial(embed_on_cpu, tmp_path / "store", reader, modalities, rows_per_shard=3000)
    with file_limit(1000), pytest.raises(WriteError, match=r"items\.arrow: cannot be written \(.*File too large"):
        run()
    with file_limit(71_900), pytest.raises(WriteError, match=r"title/00000\.npy: cannot be written \(File too large"):
        run()
    assert run().embedded == 3000
    np.testing.assert_allclose(titles(tmp_path), expected(texts), rtol=1e-5)


def test_appending_refuses_changed_or_removed_items(tmp_path: Path) -> None:
    texts = words(22)
    embed(tmp_path, {"id": np.arange(20), "title": texts[:20]})
    with pytest.raises(ConfigError, match=r"1 items of the store .* no longer in the input table, e\.g\. id '0'"):
        embed(tmp_path, {"id": np.arange(1, 22), "title": texts[1:]})
    with pytest.raises(ConfigError, match=r"the store in .* changed: first in row 19 \(id '19'\)"):
        embed(tmp_path, {"id": np.arange(22), "title": [*texts[:19], "new", *texts[20:]]})
    with pytest.raises(ConfigError, match=r"modality 'title' of the store .* no longer in the config"):
        embed(tmp_path, {"id": np.arange(22), "title": texts}, {"name": Modality("title", Letters())})
    np.testing.assert_allclose(titles(tmp_path), expected(texts[:20]), rtol=1e-6)


def test_a_modality_new_in_the_config_is_added_for_all_items(tmp_path: Path) -> None:
    texts, log = words(40), tmp_path / "log"
    columns = {"id": np.arange(40), "title": texts}
    title = {"title": Modality("title", Letters(log=str(log)), batch_size=4, dtype="float32")}
    embed(tmp_path, {"id": np.arange(20), "title": texts[:20]}, title)
    log.unlink()
    summary = embed(tmp_path, columns, title | {"more": Modality("title", Letters(gain=3.0), dtype="float32")})
    assert summary.embedded == 20 + 40
    assert sorted(log.read_text().splitlines()) == sorted(texts[20:])
    np.testing.assert_allclose(titles(tmp_path), expected(texts), rtol=1e-6)
    np.testing.assert_allclose(titles(tmp_path, "more"), expected(texts, 3.0), rtol=1e-6)


class Crash(BaseException):
    """Stands for the death of the process."""


@pytest.mark.parametrize("appending", [True, False])
def test_a_run_that_dies_while_the_store_is_put_in_place_is_completed_by_the_next(
    tmp_path: Path, appending: bool
) -> None:
    """At every single rename: the folder holds the old store, none, or the new one, and the next run completes it."""
    texts, ready = words(50), tmp_path / "ready"
    columns = {"id": np.arange(50), "title": texts}
    ready.mkdir()
    if appending:
        embed(ready, {"id": np.arange(20), "title": texts[:20]})
    with mock.patch.object(finish, "publish", side_effect=Crash), pytest.raises(Crash):
        embed(ready, columns)
    whole = tmp_path / "whole"
    shutil.copytree(ready, whole)
    finish.publish(whole / "store")
    assert not (whole / "store" / WORK_NAME).exists()

    for steps in range(20):
        folder = tmp_path / str(steps)
        shutil.copytree(ready, folder)
        try:
            with mock.patch.object(finish.os, "replace", dies_after(steps)):
                finish.publish(folder / "store")
        except Crash:
            if (folder / "store" / "store.json").exists():
                EmbeddingStore.open(folder / "store").verify()
            if steps % 4 == 0:
                assert embed(folder, columns).embedded == 0
            else:
                finish.publish(folder / "store")
            assert files(folder / "store") == files(whole / "store")
        else:
            break
    assert steps == (4 if not appending else 3) + 5  # shards; items, failures, state, digests, header


def dies_after(steps: int) -> Callable[[Path, Path], None]:
    replace, left = finish.os.replace, iter(range(steps))

    def dying(source: Path, target: Path) -> None:
        if next(left, None) is None:
            raise Crash
        replace(source, target)

    return dying


def test_restart_keeps_the_old_store_until_the_new_one_is_whole(tmp_path: Path) -> None:
    texts = words(40)
    columns = {"id": np.arange(40), "title": texts}
    embed(tmp_path, columns)
    changed = {"title": Modality("title", Letters(gain=2.0), batch_size=4, dtype="float32")}
    fewer = {"id": np.arange(10), "title": texts[:10]}
    with mock.patch("estitchup_pl.embed.loop.finish", side_effect=KeyError), pytest.raises(KeyError):
        embed(tmp_path, fewer, changed, restart=True)
    np.testing.assert_allclose(titles(tmp_path), expected(texts), rtol=1e-6)
    assert embed(tmp_path, fewer, changed).embedded == 0  # goes on with the new one, without being told again
    np.testing.assert_allclose(titles(tmp_path), expected(texts[:10], 2.0), rtol=1e-6)
    assert sorted(path.name for path in (tmp_path / "store" / "embeddings" / "title").iterdir()) == ["00000.npy"]


def test_folders_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    columns = {"id": [1], "title": ["a"]}
    place = tmp_path / "store"
    place.mkdir()
    (place / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match="neither empty nor a store"):
        embed(tmp_path, columns, restart=True)
    (place / "thesis.txt").unlink()
    EmbeddingStore.create(place, pa.table({"id": ["a"]}), {"x": np.ones((1, 2), "f4")})
    with pytest.raises(ConfigError, match="did not write"):
        embed(tmp_path, columns, restart=True)
    assert EmbeddingStore.open(place).modalities.keys() == {"x"}
    with pytest.raises(ConfigError, match="is a file"):
        embed_on_cpu(tmp_path / "items.parquet", write_table(tmp_path / "a.parquet", columns), {"t": title()})


def title() -> Modality:
    return Modality("title", Letters())


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"id": [1], "titel": ["a"]}, {}, "modalities.title.column: items has no column 'title'; did you mean 'titel'"),
        ({"sku": [1], "title": ["a"]}, {}, "id: items has no column 'id'.*there are: sku, title"),
        ({"id": [1], "title": ["a"]}, {"label": "kind"}, "label: items has no column 'kind'"),
        ({"id": [1], "sku": [2], "title": ["a"]}, {"id": "sku"}, "id: column 'sku' is to become 'id'"),
        ({"id": [1, 1], "title": ["a", "b"]}, {}, "id '1' is there twice, in rows 0 and 1"),
        ({"id": [1, None], "title": ["a", "b"]}, {}, "row 1 has no id"),
        ({"id": [1], "label": [0.5], "title": ["a"]}, {}, "column 'label' is of type double"),
        ({"id": [1], "label": NO_TEXT, "title": ["a"]}, {}, "damaged in its first rows .*Invalid UTF8"),
        ({"id": pa.array([], pa.int64()), "title": pa.array([], pa.string())}, {}, "no rows"),
        ({"id": [1], "title": ["a"]}, {"rows_per_shard": 0}, "rows_per_shard: expected at least 1"),
        ({"id": [1], "title": ["a"]}, {"workers": 0}, "workers: expected at least 1"),
    ],
)
def test_tables_and_options_that_cannot_work_are_explained_before_anything_is_embedded(
    tmp_path: Path, columns: dict, options: dict, message: str
) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        embed(tmp_path, columns, **options)


@pytest.mark.parametrize("options", [{"modalities": {}}, {"name": "a/b"}])
def test_modalities_need_a_name_that_can_be_a_folders(tmp_path: Path, options: dict) -> None:
    reader = write_table(tmp_path / "items.parquet", {"id": [1], "title": ["a"]})
    with pytest.raises((ConfigError, StoreError), match=r"at least one|name"):
        embed_on_cpu(tmp_path / "store", reader, {options["name"]: title()} if "name" in options else {})


def test_an_embedder_that_returns_the_wrong_shape_is_named(tmp_path: Path) -> None:
    class Wrong(Letters):
        dim = 7

    with pytest.raises(ConfigError, match=r"Wrong.embed returned shape \(2, 6\) for a batch that needs \(2, 7\)"):
        embed(tmp_path, {"id": [1, 2], "title": ["a", "b"]}, {"title": Modality("title", Wrong())})


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_other_precisions_give_the_embeddings_to_their_accuracy(tmp_path: Path, precision: str) -> None:
    texts = words(20)
    embed(tmp_path, {"id": np.arange(20), "title": texts}, precision=precision)
    np.testing.assert_allclose(titles(tmp_path), expected(texts), rtol=2e-2, atol=0.2)


def test_a_shard_boundary_inside_a_staged_batch_and_a_large_shard_read_the_same(tmp_path: Path) -> None:
    texts = words(700)
    results = []
    for size in (100, 300, 1000):
        folder = tmp_path / str(size)
        folder.mkdir()
        embed(folder, {"id": np.arange(700), "title": texts}, rows_per_shard=size)
        results.append(titles(folder))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-6)
    np.testing.assert_allclose(results[0], results[2], rtol=1e-6)
    assert staging._BATCH_ROWS not in (100, 300, 1000)

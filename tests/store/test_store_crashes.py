"""Whatever stops a creation leaves no half store, and an older one as it was."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from small_store import ROWS, file_names, small_embeddings, small_table

from estitchup_pl.errors import StoreError, WriteError
from estitchup_pl.store import (
    EmbeddingStore,
    shard_path,
    write_items,
    write_shard,
)


class _FailingRows:
    """Rows that raise when their second half is read."""

    shape = (ROWS, 2)
    dtype = np.dtype(np.float32)

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __getitem__(self, rows: slice) -> np.ndarray:
        if rows.stop > ROWS // 2:
            raise self._error
        return np.ones((rows.stop - rows.start, 2), np.float32)

    def locate(self, row: int | None = None) -> str:
        return "failing rows"


FAILURES = [KeyboardInterrupt(), OSError(errno.EIO, "cannot be read"), StoreError("bad row")]


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_a_failure_midway_leaves_nothing_behind(tmp_path, error):
    with pytest.raises(type(error)):
        EmbeddingStore.create(tmp_path / "new" / "store", small_table(), {"a": _FailingRows(error)}, rows_per_shard=2)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_midway_leaves_the_older_store_as_it_was(store):
    before = {name: (store.path / name).read_bytes() for name in file_names(store.path)}
    with pytest.raises(KeyboardInterrupt):
        EmbeddingStore.create(
            store.path, small_table(), {"a": _FailingRows(KeyboardInterrupt())}, rows_per_shard=2, overwrite=True
        )
    assert {name: (store.path / name).read_bytes() for name in file_names(store.path)} == before


def test_overwriting_replaces_the_store_and_keeps_other_files(store):
    (store.path / "notes.txt").write_text("mine")
    new = EmbeddingStore.create(store.path, small_table(4), small_embeddings(4, seed=1), overwrite=True)
    new.verify()
    expected = ["embeddings/image/00000.npy", "embeddings/title/00000.npy", "items.parquet", "notes.txt", "store.json"]
    assert file_names(store.path) == expected
    np.testing.assert_array_equal(new.gather(range(4), ["image"]), small_embeddings(4, seed=1)["image"])


def test_a_store_can_be_rewritten_from_its_own_maps(store):
    rows = {name: np.load(shard_path(store.path, name, 0), mmap_mode="r") for name in store.modalities}
    new = EmbeddingStore.create(store.path, store.items.slice(0, 4), rows, overwrite=True)
    np.testing.assert_array_equal(new.gather(range(4), ["title"]), small_embeddings()["title"][:4])


def test_folders_in_use_are_refused(store, tmp_path):
    with pytest.raises(StoreError, match="holds a store already"):
        EmbeddingStore.create(store.path, small_table(), small_embeddings())
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(StoreError, match="is not empty, and not an unfinished store"):
        EmbeddingStore.create(tmp_path / "thesis", small_table(), small_embeddings())
    with pytest.raises(StoreError, match="expected a folder to write the store to, got a file"):
        EmbeddingStore.create(tmp_path / "thesis" / "chapter.tex", small_table(), small_embeddings(), overwrite=True)
    assert file_names(tmp_path / "thesis") == ["chapter.tex"]


def _start_slow_creation(folder: Path) -> subprocess.Popen[bytes]:
    """Start a process that creates a store in ``folder`` and takes 0.02 s for each of 100 shards."""
    code = f"""
        import time, numpy as np, pyarrow as pa
        from estitchup_pl.store import EmbeddingStore

        class Slow:
            shape, dtype = (100, 2), np.dtype("float32")
            def __getitem__(self, rows):
                time.sleep(0.02)
                return np.ones((rows.stop - rows.start, 2), np.float32)
            def locate(self, row=None):
                return "slow"

        items = pa.table({{"id": [str(row) for row in range(100)]}})
        EmbeddingStore.create({str(folder)!r}, items, {{"a": Slow()}}, rows_per_shard=1)
    """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])


def test_a_killed_creation_is_no_store_and_can_be_run_again(tmp_path):
    folder = tmp_path / "store"
    process = _start_slow_creation(folder)
    try:
        deadline = time.monotonic() + 60
        while not list(folder.rglob("*.npy")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with pytest.raises(StoreError, match=r"it has no store\.json"):
        EmbeddingStore.open(folder)
    EmbeddingStore.create(folder, small_table(), small_embeddings()).verify()
    assert "embeddings/a/00000.npy" not in file_names(folder)


def _points(store: EmbeddingStore, tmp_path: Path, monkeypatch) -> list[Path]:
    """Copies of a store's folder at every moment of an overwriting at which a crash leaves something else."""
    copies: list[Path] = []

    def noted(function):
        def call(*args, **kwargs):
            copies.append(tmp_path / f"crash-{len(copies)}")
            shutil.copytree(store.path, copies[-1])
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", noted(Path.replace))
        patch.setattr(Path, "mkdir", noted(Path.mkdir))
        patch.setattr(shutil, "rmtree", noted(shutil.rmtree))
        EmbeddingStore.create(store.path, small_table(6), small_embeddings(6, seed=1), overwrite=True)
    return copies


def test_an_overwriting_that_is_cut_off_leaves_the_old_store_or_the_new_one(store, tmp_path, monkeypatch):
    old, new = small_embeddings()["image"], small_embeddings(6, seed=1)["image"]
    found = []
    for copy in _points(store, tmp_path, monkeypatch):
        opened = EmbeddingStore.open(copy, verify=True)
        found.append(len(opened))
        np.testing.assert_array_equal(opened.gather(range(len(opened)), ["image"]), {10: old, 6: new}[len(opened)])
        again = EmbeddingStore.create(copy, small_table(4), small_embeddings(4, seed=2), overwrite=True)
        again.verify()
        assert not {".unfinished", ".finished", ".estitchup.lock"} & {file.name for file in copy.iterdir()}
    assert found == sorted(found, reverse=True)  # first the old one, from some moment on the new one
    assert found.count(10) >= 5
    assert found.count(6) >= 7


def test_a_swap_that_cannot_be_finished_is_told(store, tmp_path, monkeypatch):
    copy = _points(store, tmp_path, monkeypatch)[-3]

    def read_only(path, target):
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", read_only)
        with pytest.raises(StoreError, match=r"cut off in the last step of its creation.*\(.*Read-only file system\)"):
            EmbeddingStore.open(copy)
    assert len(EmbeddingStore.open(copy, verify=True)) == 6


def test_of_two_creations_in_one_folder_the_second_is_refused(store):
    """And leaves the first one's work alone."""

    class Rival(_FailingRows):
        def __getitem__(self, rows):
            with pytest.raises(WriteError, match=f"{store.path}: another command is writing there"):
                EmbeddingStore.create(store.path, small_table(), small_embeddings(), overwrite=True)
            return np.ones((rows.stop - rows.start, 2), np.float32)

    EmbeddingStore.create(store.path, small_table(), {"a": Rival(KeyboardInterrupt())}, overwrite=True).verify()
    assert file_names(store.path) == ["embeddings/a/00000.npy", "items.parquet", "store.json"]


def test_a_full_disk_leaves_the_older_store_as_it_was(store, file_limit):
    before = {name: (store.path / name).read_bytes() for name in file_names(store.path)}
    big = {"image": np.ones((ROWS, 4096), np.float32)}
    with file_limit(20_000), pytest.raises(WriteError, match=r"image/00000\.npy: cannot be written \(File too large\)"):
        EmbeddingStore.create(store.path, small_table(), big, overwrite=True)
    assert {name: (store.path / name).read_bytes() for name in file_names(store.path)} == before
    with file_limit(10), pytest.raises(WriteError, match=r"items\.parquet: cannot be written"):
        write_items(store.path, store.items)
    assert {name: (store.path / name).read_bytes() for name in file_names(store.path)} == before


def test_a_shard_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    write_shard(tmp_path, "a", 0, np.ones((2, 2), np.float32))
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError(errno.EIO, "broken disk")))
    with pytest.raises(OSError, match="broken disk"):
        write_shard(tmp_path, "a", 0, np.zeros((2, 2), np.float32))
    with pytest.raises(OSError, match="broken disk"):
        write_shard(tmp_path, "a", 1, np.zeros((2, 2), np.float32))
    assert file_names(tmp_path) == ["embeddings/a/00000.npy"]
    assert np.load(shard_path(tmp_path, "a", 0)).all()

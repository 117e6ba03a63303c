"""Labels of a store change whole or not at all, are kept in a history, and can be taken back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from estitchup_pl.errors import DataError, StoreError, WriteError
from estitchup_pl.locking import locked_folder
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store import label_history as history
from estitchup_pl.store.label_history import HISTORY_NAME, apply_labels, label_history, undo

BEFORE = ["hat", None, "hat", None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    items = pa.table({"id": ["a", "b", "c", "d"], "label": BEFORE, "price": [1, 2, 3, 4]})
    EmbeddingStore.create(tmp_path / "store", items, {"title": np.eye(4, dtype=np.float16)})
    return tmp_path / "store"


def labels(path: Path) -> list[str | None]:
    store = EmbeddingStore.open(path)
    store.verify()
    assert store.column("price").to_pylist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(store.gather(range(4)), np.eye(4))
    return store.column("label").to_pylist()


def test_labels_change_and_the_change_is_kept(path: Path) -> None:
    change = apply_labels(path, {"b": "shoe", "a": "shoe", "c": "hat"}, "answers.csv")
    assert labels(path) == ["shoe", "shoe", "hat", None]
    assert (change.number, change.before, change.after) == (
        1,
        {"b": None, "a": "hat"},
        {"b": "shoe", "a": "shoe"},
    )
    assert label_history(path) == [change]
    assert str(change).endswith("1 new, 1 changed, 0 removed  answers.csv")


def test_changes_are_taken_back_the_last_first(path: Path) -> None:
    apply_labels(path, {"b": "shoe"}, "one")
    apply_labels(path, {"d": "scarf", "a": None}, "two")
    assert undo(path).after == {"d": None, "a": "hat"}
    assert labels(path) == ["hat", "shoe", "hat", None]
    undo(path)
    assert labels(path) == BEFORE
    with pytest.raises(DataError, match="no change of labels to take back"):
        undo(path)
    assert [change.number for change in label_history(path)] == [1, 2, 3, 4]
    apply_labels(path, {"d": "cap"}, "three")
    undo(path)
    assert labels(path) == BEFORE


def test_a_change_that_others_have_overwritten_is_not_taken_back(path: Path) -> None:
    apply_labels(path, {"b": "shoe"}, "one")
    history.write_labels(path, {"b": "cap"})
    with pytest.raises(StoreError, match="'b' no longer has the label"):
        undo(path)
    assert labels(path) == ["hat", "cap", "hat", None]


@pytest.mark.parametrize("given", [{"z": "hat"}, {"a": "hat"}, {}])
def test_what_changes_nothing_is_refused_and_leaves_no_trace(path: Path, given: dict[str, str]) -> None:
    with pytest.raises(DataError):
        apply_labels(path, given, "x")
    assert label_history(path) == []
    assert not (path / HISTORY_NAME).exists()


def test_a_change_cut_off_before_the_labels_were_written_never_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apply_labels(path, {"b": "shoe"}, "one")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(history, "write_labels", killed)
        with pytest.raises(KeyboardInterrupt):
            apply_labels(path, {"d": "cap"}, "two")
    assert labels(path) == ["hat", "shoe", "hat", None]
    assert [change.source for change in label_history(path)] == ["one"]
    assert apply_labels(path, {"d": "scarf"}, "three").number == 2
    assert [change.source for change in label_history(path)] == ["one", "three"]
    undo(path)
    undo(path)
    assert labels(path) == BEFORE


@pytest.mark.parametrize("place", range(12))
def test_killed_at_any_renaming_the_store_has_all_old_or_all_new_labels(
    path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """Every renaming of the change is a place to be killed at; whoever opens the store next finds it whole."""
    real, calls = Path.replace, []

    def replace(source: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) > place:
            raise KeyboardInterrupt
        return real(source, target)

    monkeypatch.setattr(Path, "replace", replace)
    try:
        apply_labels(path, {"b": "shoe", "d": "cap"}, "one")
        finished = True
    except KeyboardInterrupt:
        finished = False
    monkeypatch.undo()
    assert labels(path) in (BEFORE, ["hat", "shoe", "hat", "cap"])
    assert not finished or labels(path) != BEFORE
    assert len(label_history(path)) == (labels(path) != BEFORE)
    assert place < 11 or finished  # all places were tried


def test_another_command_on_the_folder_is_told(path: Path) -> None:
    with locked_folder(path), pytest.raises(WriteError, match="another command"):
        apply_labels(path, {"b": "shoe"}, "one")


def test_a_changed_label_in_the_history_is_noticed_before_it_is_taken_back(path: Path) -> None:
    apply_labels(path, {"a": "shoe"}, "one")
    file = path / HISTORY_NAME / "00001.parquet"
    content = file.read_bytes()
    assert content.count(b"hat") >= 1
    file.write_bytes(content.replace(b"hat", b"cat"))
    with pytest.raises(StoreError, match=r"00001\.parquet: .*does not match its own digest"):
        undo(path)
    assert labels(path) == ["shoe", None, "hat", None]


def test_a_damaged_table_is_not_written_anew_with_a_digest_that_fits_it(path: Path) -> None:
    items = path / "items.parquet"
    items.write_bytes(items.read_bytes().replace(b"hat", b"cat"))
    with pytest.raises(StoreError, match=r"items\.parquet: changed since it was written"):
        apply_labels(path, {"b": "shoe"}, "one")


def test_a_damaged_history_is_named(path: Path) -> None:
    apply_labels(path, {"b": "shoe"}, "one")
    (path / HISTORY_NAME / "00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r"00001\.parquet"):
        label_history(path)

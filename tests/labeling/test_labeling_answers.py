"""Answers of people against the labels of a store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.labeling.answers import Answer, LabelChanges, compare_answers, read_table
from estitchup_pl.labeling.label_studio import labeling_interface, read_export, tasks
from estitchup_pl.store import EmbeddingStore


@pytest.fixture
def store() -> EmbeddingStore:
    items = pa.table({"id": ["a", "b", "c", "d"], "label": [None, "hat", "hat", None]})
    return EmbeddingStore.from_arrays(items, {"title": np.eye(4, dtype=np.float16)})


def test_every_kind_of_answer_is_told_apart(store: EmbeddingStore) -> None:
    answers = [
        Answer("a", "shoe"),
        Answer("b", "shoe"),
        Answer("c", "hat"),
        Answer("d", None),
        Answer("e", "hat"),
        Answer("a", "shoe"),
    ]
    changes = compare_answers(store, answers)
    assert changes == LabelChanges(
        new={"a": "shoe"},
        changed={"b": ("hat", "shoe")},
        same=["c"],
        unanswered=["d"],
        unknown=["e"],
        new_classes={"shoe": 2},
    )
    assert changes.labels == {"a": "shoe", "b": "shoe"}
    assert str(changes).splitlines() == [
        "1 label new, 1 changed, 1 confirmed, 1 class new",
        "new class 'shoe': 2 items",
        "changed 'b': 'hat' becomes 'shoe'",
        "not in the store: 1 ('e')",
        "not answered: 1 ('d')",
    ]


def test_answers_that_contradict_each_other_change_nothing(store: EmbeddingStore) -> None:
    changes = compare_answers(store, [Answer("a", "hat"), Answer("a", "shoe"), Answer("a", None)])
    assert changes.conflicts == {"a": ["hat", "shoe"]}
    assert not changes.labels
    assert not changes.new_classes
    assert "conflict 'a': 'hat' or 'shoe'" in str(changes)


def test_one_answer_beside_a_skipped_one_counts(store: EmbeddingStore) -> None:
    assert compare_answers(store, [Answer("a", None), Answer("a", "hat")]).new == {"a": "hat"}


def test_none_is_no_class(store: EmbeddingStore) -> None:
    with pytest.raises(DataError, match="item 'a' is answered \"none\""):
        compare_answers(store, [Answer("b", "hat"), Answer("a", "none")])


def exported(results: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """An annotation as Label Studio 1.x exports it."""
    return {"id": 1, "completed_by": 1, "result": results, "was_cancelled": False, **more}


def choice(label: str) -> dict[str, Any]:
    value = {"value": {"choices": [label]}, "id": "x", "from_name": "label", "to_name": "title", "type": "choices"}
    return {**value, "origin": "manual"}


def written(text: str) -> dict[str, Any]:
    return {"value": {"text": [text]}, "id": "y", "from_name": "new_class", "to_name": "title", "type": "textarea"}


def test_an_export_is_read_annotation_by_annotation(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_text(
        json.dumps(
            [
                {"id": 1, "data": {"id": "a", "title": "x"}, "annotations": [exported([choice("hat")])]},
                {"id": 2, "data": {"id": "b"}, "annotations": [exported([choice("hat"), written(" scarf ")])]},
                {"id": 3, "data": {"id": "c"}, "annotations": []},
                {"id": 4, "data": {"id": "d"}, "annotations": [exported([], was_cancelled=True)]},
                {"id": 5, "data": {"id": 7}, "annotations": [exported([choice("hat")]), exported([choice("shoe")])]},
            ]
        )
    )
    assert list(read_export(path)) == [
        Answer("a", "hat"),
        Answer("b", "scarf"),
        Answer("c", None),
        Answer("d", None),
        Answer("7", "hat"),
        Answer("7", "shoe"),
    ]


def test_the_short_export_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_text(json.dumps([{"id": "a", "label": "hat"}, {"id": "b", "label": "hat", "new_class": "scarf"}]))
    assert list(read_export(path)) == [Answer("a", "hat"), Answer("b", "scarf")]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"data": {}}]', '[{"annotations": []}]', "[" * 100_000])
def test_what_is_no_export_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "export.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"export\.json"):
        list(read_export(path))


def test_tasks_refer_to_what_the_interface_names() -> None:
    interface = labeling_interface(['a "b" & c'], ["title"], ["picture"])
    assert "<Choice value='a \"b\" &amp; c'/>" in interface
    item = {"id": "a", "title": "x", "likely": "hat", "confidence": 0.5, "cluster": None}
    (task,) = tasks([item], "title", "model")
    assert task["data"] == {"id": "a", "title": "x", "likely": "hat", "confidence": 0.5}
    (prediction,) = task["predictions"]
    assert prediction["score"] == 0.5
    assert prediction["result"] == [
        {"from_name": "label", "to_name": "title", "type": "choices", "value": {"choices": ["hat"]}}
    ]
    assert 'name="label" toName="title"' in interface


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_answers_come_from_a_table(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"answers{suffix}"
    if suffix == ".csv":
        path.write_text("sku,class\n007,hat\n8,\n")
    else:
        pq.write_table(pa.table({"sku": ["007", "8"], "class": ["hat", " "]}), path)
    assert read_table(path, "sku", "class") == [Answer("007", "hat"), Answer("8", None)]
    with pytest.raises(ConfigError, match="did you mean 'class'"):
        read_table(path, "sku", "clas")


def test_a_row_without_an_id_is_named(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("id,label\na,hat\n,hat\n")
    with pytest.raises(DataError, match="row 1 has no id"):
        read_table(path)

"""Staged rows, batches and states: every row once, in batches that depend on the shard alone."""

from __future__ import annotations

import json
from collections import Counter
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Letters, Streamed, words, write_table

from estitchup_pl.embed import Modality
from estitchup_pl.embed.modality import weights_digest
from estitchup_pl.embed.preparing import Chunk, Feed, prepared_ahead, split_batches
from estitchup_pl.embed.staging import StagedItems, reorder_items, stage_items
from estitchup_pl.embed.state import EmbedState, Note, Unit, read_digests
from estitchup_pl.errors import ConfigError, StoreError
from estitchup_pl.store import write_shard

TEXT = st.one_of(st.none(), st.sampled_from(["", "abc", "broken", "nothing", "h" * 30]), st.text("abcdef", max_size=30))


def prepared(texts: list, units: list[Unit], encoder: type = Letters, batch_size: int = 3) -> list[Chunk]:
    modality = Modality("title", encoder(), batch_size=batch_size)
    return list(prepared_ahead(units, {"title": Feed(modality, lambda start, stop: texts[start:stop])}, workers=2))


def units_of(rows: int, size: int, start: int = 0) -> list[Unit]:
    return EmbedState(rows, size, "32-true", {"title": {}}, carried={"title": start}).units()


@settings(deadline=None, max_examples=60)
@given(
    st.lists(TEXT, min_size=1, max_size=40), st.integers(1, 15), st.integers(1, 5), st.sampled_from([Letters, Streamed])
)
def test_every_row_is_embedded_missing_or_failed_exactly_once(
    texts: list, size: int, batch_size: int, encoder: type
) -> None:
    units = units_of(len(texts), size)
    fate: Counter[int] = Counter()
    seen = []
    for unit, batches, note in prepared(texts, units, encoder, batch_size):
        seen.append(unit)
        for inputs, rows in batches:
            assert 1 <= len(inputs) <= batch_size
            for value, same in zip(inputs, rows, strict=True):
                assert all(texts[row] == value for row in same)
                fate.update(same)
        assert all(not (texts[row] or "").strip() or texts[row] == "nothing" for row in note.missing)
        assert all(texts[row] == "broken" and why == "ValueError: cannot be read" for row, why in note.failed)
        fate.update([*note.missing, *(row for row, _ in note.failed)])
    assert [unit for unit, _ in groupby(seen)] == units
    assert fate == Counter(range(len(texts)))


@pytest.mark.parametrize("encoder", [Letters, Streamed])
def test_batches_of_a_shard_do_not_depend_on_what_else_there_is_to_do(encoder: type) -> None:
    texts, units = words(50), units_of(50, 20)
    together, alone = prepared(texts, units, encoder), prepared(texts, units[1:2], encoder)
    assert [chunk for chunk in together if chunk.unit == units[1]] == alone


@given(st.lists(st.integers(1, 600), max_size=60).map(lambda lengths: sorted(lengths, reverse=True)), st.integers(1, 9))
def test_batches_are_full_or_end_where_lengths_fall(lengths: list[int], batch_size: int) -> None:
    parts = list(split_batches(lengths, batch_size))
    assert [row for part in parts for row in range(len(lengths))[part]] == list(range(len(lengths)))
    for part in parts:
        inside = lengths[part]
        assert 4 * inside[-1] >= 3 * inside[0]
        end = part.stop == len(lengths)
        assert end or len(inside) == batch_size or 4 * lengths[part.stop] < 3 * inside[0]


def test_an_error_that_no_value_escapes_ends_the_run() -> None:
    class Hopeless(Letters):
        def prepare(self, value: str) -> str:
            raise ConfigError("set root")

    with pytest.raises(ConfigError, match="set root"):
        prepared(["a"], units_of(1, 1), Hopeless)


@pytest.mark.parametrize("rows", [1, 256, 257, 1000])
def test_staged_rows_are_read_back_over_batch_boundaries_and_in_another_order(tmp_path: Path, rows: int) -> None:
    texts = words(rows)
    items = write_table(tmp_path / "a.parquet", {"sku": range(rows), "title": pa.array(texts).dictionary_encode()})
    path = tmp_path / "items.arrow"
    digests = stage_items(items, "sku", None, {"title": Modality("title", Letters())}, path)["title"]
    staged = StagedItems(path)
    read = staged.reader("title")
    assert staged.rows == rows == len(digests)
    for start, stop in ((0, rows), (rows // 3, rows), (rows // 2, rows // 2 + 1), (max(rows - 300, 0), rows - 1)):
        assert read(start, stop) == texts[start:stop]
    order = np.random.default_rng(0).permutation(rows)
    reorder_items(path, order)
    assert StagedItems(path).reader("title")(0, rows) == [texts[row] for row in order]
    assert StagedItems(path).table()["id"].to_pylist() == [str(row) for row in order]


def test_digests_tell_ids_values_and_types_apart(tmp_path: Path) -> None:
    def digest(identifier: str, value: object) -> int:
        items = write_table(tmp_path / "a.parquet", {"id": [identifier], "v": [value]})
        return int(stage_items(items, "id", None, {"v": Modality("v", Letters())}, tmp_path / "a.arrow")["v"][0])

    values = [
        ("1", "a"),
        ("2", "a"),
        ("1", "b"),
        ("1", b"a"),
        ("1", None),
        ("1", 1),
        ("1", "1"),
        ("1a", ""),
    ]
    assert len({digest(*value) for value in values}) == len(values)
    assert digest("1", "a") == digest("1", "a")


def test_state_and_digests_come_back_and_damage_is_named(tmp_path: Path) -> None:
    state = EmbedState(3, 2, "32-true", {"title": {"column": "title"}}, {"title": 1}, {"title": [1, 2]})
    digests = {"title": np.array([1, 2**64 - 1, 3], np.uint64)}
    state.write(tmp_path, digests)
    assert EmbedState.read(tmp_path) == state
    np.testing.assert_array_equal(read_digests(tmp_path)["title"], digests["title"])
    for damage in ("{", json.dumps({"version": 99}), json.dumps({"version": 1, "rows": 3})):
        (tmp_path / "embed.json").write_text(damage)
        with pytest.raises(StoreError, match=r"embed\.json: damaged .*--restart"):
            EmbedState.read(tmp_path)


def test_weights_have_the_same_digest_exactly_as_long_as_they_are_the_same() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    before = weights_digest(module)
    assert weights_digest(module) == before
    with torch.no_grad():
        module[0].weight[0, 0] = torch.nextafter(module[0].weight[0, 0], torch.tensor(9.0))
    assert weights_digest(module) != before


def test_units_leave_carried_shards_out_and_fill_up_the_last_one(tmp_path: Path) -> None:
    state = EmbedState(10, 4, "32-true", {"a": {}, "b": {}}, carried={"a": 6})
    wanted = [Unit("a", 1, 4, 6, 8), Unit("a", 2, 8, 8, 10)]
    wanted += [Unit("b", 0, 0, 0, 4), Unit("b", 1, 4, 4, 8), Unit("b", 2, 8, 8, 10)]
    assert state.units() == wanted
    assert EmbedState(6, 4, "32-true", {"a": {}}, carried={"a": 6}).units() == []
    write_shard(tmp_path, "b", 1, np.ones((4, 2), np.float32))
    assert state.missing_units(tmp_path) == [unit for unit in wanted if unit != wanted[3]]


def test_notes_come_back(tmp_path: Path) -> None:
    unit, note = Unit("a", 1, 4, 6, 8), Note([6], [(7, "why")], 1, 20)
    note.write(tmp_path, unit)
    assert Note.read(tmp_path, unit) == note
    path = next(tmp_path.rglob("*.json"))
    path.write_text(path.read_text().replace("7", "5"))
    with pytest.raises(StoreError, match="does not match its own digest"):
        Note.read(tmp_path, unit)

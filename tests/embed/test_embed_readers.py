"""Tables in every form that they come in."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import Letters, embed_on_cpu

from estitchup_pl.embed import Modality
from estitchup_pl.embed.modality import cell_value
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.tables import TableFile


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_same_table_in_any_form_gives_the_same_store(tmp_path: Path, suffix: str) -> None:
    table = {"id": ["1", "2", "3"], "label": ["hat", None, "shoe"], "title": ["abc", None, "cab"]}
    path = tmp_path / f"items.{suffix}"
    if suffix == "csv":
        path.write_text("id,label,title\n1,hat,abc\n2,,\n3,shoe,cab\n")
    elif suffix == "jsonl":
        lines = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
        path.write_text("\n".join(map(json.dumps, lines)))
    else:
        pq.write_table(pa.table(table), path)
    embed_on_cpu(tmp_path / "store", TableFile(path), {"title": Modality("title", Letters())})
    store = EmbeddingStore.open(tmp_path / "store")
    store.verify()
    assert store.items.to_pydict() == table | {"has_title": [True, False, True]}


@given(st.one_of(st.none(), st.text(max_size=5), st.binary(max_size=5), st.integers()))
def test_a_cell_holds_itself_or_nothing(cell: object) -> None:
    empty = cell is None or cell == b"" or (isinstance(cell, str) and not cell.strip())
    assert cell_value(cell) == (None if empty else cell)
    assert cell_value({"bytes": None, "path": cell}) == cell_value(cell)
    assert cell_value(cell, "a/{}.jpg") == (None if empty else f"a/{cell}.jpg")

"""The columns that a store needs, chosen from those that a table has."""

from __future__ import annotations

import pyarrow as pa
import pytest

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.tables import number_rows, prepare_items


def test_chosen_columns_are_copied_and_all_others_kept():
    table = pa.table({"sku": [5, 6], "type": ["a", ""], "fold": ["train", "test"], "photo": ["1", "0"]})
    prepared = prepare_items(
        table, "t", id_column="sku", label_column="type", split_column="fold", flag_columns={"image": "photo"}
    )
    assert prepared.select(table.column_names).equals(table)
    assert prepared.select(["id", "label", "split", "has_image"]).to_pydict() == {
        "id": ["5", "6"],
        "label": ["a", None],
        "split": ["train", "test"],
        "has_image": [True, False],
    }


def test_columns_that_have_their_name_already_need_no_copy():
    table = pa.table({"id": ["a"], "label": ["x"], "split": ["train"], "has_image": [True]})
    options = {"label_column": "label", "split_column": "split", "flag_columns": {"image": "has_image"}}
    assert prepare_items(table, "t", **options).equals(table)
    assert prepare_items(table, "t").equals(table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"id_column": "skuu"},
            r"id: t has no column 'skuu'; did you mean 'sku'\? \(there are: sku, type",
        ),
        ({"label_column": "typ"}, "label: t has no column 'typ'; did you mean 'type'"),
        ({"id_column": "sku"}, "column 'sku' is to become 'id', but t has a column 'id' too"),
        ({"label_column": "weight"}, "column 'weight' is of type double; ids, labels and splits are names"),
        ({"flag_columns": {"image": "type"}}, "column 'type' is not of truth values"),
    ],
)
def test_columns_that_cannot_be_chosen_are_refused(options, message):
    table = pa.table({"sku": [5, 6], "type": ["a", "b"], "id": ["x", "y"], "weight": [0.5, 1.0]})
    with pytest.raises((ConfigError, DataError), match=message):
        prepare_items(table, "t", **options)


def test_rows_are_numbered_only_where_there_are_no_ids():
    assert number_rows(pa.table({"x": [3, 4]}), "t")["id"].to_pylist() == ["0", "1"]
    with pytest.raises(ConfigError, match="t: the table has a column 'id'"):
        number_rows(pa.table({"id": [3, 4]}), "t")


def test_a_default_column_takes_the_path_of_the_option_it_stands_for():
    table = pa.table({"id": [7, 8], "label": ["a", ""], "split": ["", "val"], "has_image": ["true", "0"]})
    expected = {"id": ["7", "8"], "label": ["a", None], "split": [None, "val"], "has_image": [True, False]}
    chosen = {"label_column": "label", "split_column": "split", "flag_columns": {"image": "has_image"}}
    assert prepare_items(table, "t", flag_columns={"image": None}).to_pydict() == expected
    assert prepare_items(table, "t", **chosen).to_pydict() == expected
    with pytest.raises(DataError, match="column 'has_image' is not of truth values, which are true, false"):
        prepare_items(pa.table({"id": ["a"], "has_image": ["yes"]}), "t", flag_columns={"image": None})

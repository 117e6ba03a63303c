"""The columns that a store needs, from those that a table has."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.store import flag_column, name_hint
from estitchup_pl.store.items import ids_metadata, names_column
from estitchup_pl.tables.reader import kept_columns


def number_rows(items: pa.Table, where: str) -> pa.Table:
    """Give a table without ids the column ``id``: the row's number.

    Raises:
        ConfigError: If the table has a column ``id``.
    """
    if "id" in items.column_names:
        raise ConfigError(f"{where}: the table has a column 'id'; use it, or leave it out (--drop id)")
    return items.append_column("id", pa.array(np.arange(items.num_rows)).cast(pa.string()))


def prepare_items(
    items: pa.Table,
    where: str,
    *,
    id_column: str = "id",
    label_column: str | None = None,
    split_column: str | None = None,
    flag_columns: Mapping[str, str | None] | None = None,
) -> pa.Table:
    """Give a table ``id``, ``label``, ``split`` and ``has_<modality>`` from columns of other names.

    The chosen columns are copied, so that everything in the table stays what it was. A column that is not chosen
    but has the name already takes the same path as if it were.

    Args:
        items: The table.
        where: What messages call it.
        id_column: Column of unique names.
        label_column: Column of class names; ``None`` for ``label`` where it is there, else for no labels.
        split_column: Column that says which split a row belongs to; ``None`` for ``split`` where it is there.
        flag_columns: For each modality, the column that says whether an item has it; ``None`` for
            ``has_<modality>`` where it is there.

    Returns:
        The table. ``id``, ``label`` (nulls, where the table has none) and ``split`` are text, and null where empty.

    Raises:
        ConfigError: For an unknown column (nearest name offered), or a name already taken.
        DataError: For a column of a wrong type, or one that is there twice.

    Example:
        >>> table = pa.table({"sku": [7, 9], "type": ["shoe", "hat"]})
        >>> prepare_items(table, "items", id_column="sku", label_column="type").to_pylist()[1]
        {'id': '9', 'label': 'hat', 'sku': 9, 'type': 'hat'}
    """
    kept_columns(items.column_names, (), where)
    flags = {flag_column(modality): column for modality, column in (flag_columns or {}).items()}
    chosen: dict[str, str | None] = {"id": id_column, "label": label_column, "split": split_column, **flags}
    added = {}
    for name, column in chosen.items():
        if column is None and name not in items.column_names:
            continue
        column = column or name
        check_column(column, name, items.column_names, where)
        if column != name and name in items.column_names:
            raise ConfigError(
                f"{name}: column {column!r} is to become {name!r}, but {where} has a column {name!r} too. "
                f"Rename that one, or leave it out (drop {name})."
            )
        added[name] = _truth_values(items, column, where) if name in flags else names_column(items, column, where)
    if "label" not in added:
        added["label"] = pa.nulls(items.num_rows, pa.string())
    others = {name: items[name] for name in items.column_names if name not in added}
    columns = {"id": added["id"], "label": added["label"]} | added | others
    return pa.table(columns, metadata=ids_metadata(items, id_column))


def check_column(column: str, option: str, names: Collection[str], where: str) -> None:
    """Raise :class:`ConfigError`, with the nearest name, unless the column that an option names is there."""
    if column not in names:
        raise ConfigError(f"{option}: {where} has no column {column!r}{name_hint(column, names)}")


def _truth_values(items: pa.Table, column: str, where: str) -> pa.ChunkedArray:
    try:
        return pc.cast(items[column], pa.bool_())
    except pa.ArrowException as error:
        raise DataError(
            f"{where}: column {column!r} is not of truth values, which are true, false, 1 and 0 ({error})"
        ) from error

"""The table of items: its checks, and the columns that every store has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from estitchup_pl.errors import StoreError, did_you_mean

_IDS: Final = b"ids"
UNTYPED: Final = {_IDS: b"untyped"}
"""Metadata of a table from a source without types, such as CSV."""

_NAME_TYPES: Final[tuple[Callable[[pa.DataType], bool], ...]] = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_integer,
    pa.types.is_boolean,
    pa.types.is_null,
)


def name_hint(name: str, known: Iterable[str]) -> str:
    """End of a message about an unknown name: the nearest known one, and all of them.

    Example:
        >>> name_hint("imge", ["image", "title"])
        "; did you mean 'image'? (there are: image, title)"
    """
    names = list(known)
    return f"{did_you_mean(name, names)} (there are: {', '.join(names)})"


def flag_column(modality: str) -> str:
    """Name of the column that says whether an item has a modality."""
    return f"has_{modality}"


def has_integer_ids(items: pa.Table) -> bool:
    """Whether the ids of a table are whole numbers, by their type or, for a source without types, by how they look.

    Example:
        >>> has_integer_ids(pa.table({"id": [7, 8]})), has_integer_ids(pa.table({"id": ["7", "8"]}))
        (True, False)
        >>> of_csv = [pa.table({"id": ids}).replace_schema_metadata(UNTYPED) for ids in (["7", "8"], ["7", "007"])]
        >>> [has_integer_ids(table) for table in of_csv]
        [True, False]
    """
    known, ids = items.schema.metadata or {}, items["id"]
    if pa.types.is_integer(ids.type) or known.get(_IDS) == b"integers":
        looks = True
    else:
        text = pa.types.is_string(ids.type) and known.get(_IDS) == b"untyped"
        looks = text and bool(pc.all(pc.match_substring_regex(ids, r"^(0|-?[1-9]\d*)$"), skip_nulls=False).as_py())
    return looks and _is_int64(ids)


def ids_metadata(items: pa.Table, column: str) -> dict[bytes, bytes] | None:
    """Metadata of a table whose column is to become its ids as text, so that their type is not forgotten."""
    if pa.types.is_integer(items[column].type):
        return {_IDS: b"integers"}
    return UNTYPED if (items.schema.metadata or {}).get(_IDS) == b"untyped" else None


def _is_int64(ids: pa.ChunkedArray) -> bool:
    try:
        pc.cast(ids, pa.int64())
    except pa.ArrowInvalid:
        return False
    return True


def normalize_items(items: pa.Table, where: str = "items") -> pa.Table:
    """Give a table the columns that a store needs, and check them.

    Args:
        items: Table with at least the column ``id``.
        where: What messages call the table.

    Returns:
        The table as :func:`text_names` makes it.

    Raises:
        StoreError: For an empty table, repeated column names, ids that are missing or not unique, or text that is
            not UTF-8.
    """
    if items.num_rows == 0:
        raise StoreError(f"{where}: the table has no rows; a store needs at least one item")
    repeated = sorted({name for name in items.column_names if items.column_names.count(name) > 1})
    if repeated:
        raise StoreError(f"{where}: column {repeated[0]!r} is there more than once; rename one of them")
    if "id" not in items.column_names:
        raise StoreError(f"{where}: no column 'id'{name_hint('id', items.column_names)}")
    check_content(items, where)
    table = text_names(items, where)
    check_ids(table["id"], where)
    return table


def check_content(items: pa.Table, where: str, first: int = 0) -> None:
    r"""Raise :class:`StoreError` for values that Arrow itself does not allow, such as text that is not UTF-8.

    Args:
        items: The table, or a part of it.
        where: What messages call the table.
        first: Row that the part begins with.

    Example:
        >>> text = pa.array([b"shoe", b"h\xfft"]).view(pa.string())
        >>> check_content(pa.table({"label": text}), "items")
        Traceback (most recent call last):
            ...
        estitchup_pl.errors.StoreError: items: column 'label', row 1: not text in UTF-8 (b'h\xfft'). Write it in UTF-8
    """
    for name in items.column_names:
        try:
            items[name].validate(full=True)
        except pa.ArrowInvalid as error:
            raise StoreError(
                f"{where}: column {name!r}{_which(items[name], first) or f': damaged ({error})'}"
            ) from error


def _which(column: pa.ChunkedArray, first: int) -> str:
    """Row and bytes of the first text that is not UTF-8, for a message."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return ""
    binary = pa.binary() if pa.types.is_string(column.type) else pa.large_binary()
    cells = (cell.as_py() for chunk in column.chunks for cell in chunk.view(binary))
    for row, cell in enumerate(cells, first):
        try:
            (cell or b"").decode()
        except UnicodeDecodeError:
            return f", row {row}: not text in UTF-8 ({cell[:40]!r}). Write it in UTF-8"
    return ""


def text_names(items: pa.Table, where: str) -> pa.Table:
    """Make ``id``, ``label`` and ``split`` text, and null where they are empty; ``label`` is added where missing.

    Raises:
        StoreError: For a column of another type than text, whole numbers, truth values or categories of them:
            ``1.0`` and ``1`` would be two different names.

    Example:
        >>> text_names(pa.table({"id": [7, 8], "split": ["train", ""]}), "items").to_pylist()[1]
        {'id': '8', 'split': None, 'label': None}
    """
    for name in ("id", "label", "split"):
        if name in items.column_names:
            items = _set_column(items, name, names_column(items, name, where))
    if "label" not in items.column_names:
        items = items.append_column("label", pa.nulls(items.num_rows, pa.string()))
    return items


def names_column(items: pa.Table, column: str, where: str) -> pa.ChunkedArray:
    """Column of names as text, null where it is empty; raises as :func:`text_names`."""
    values = items[column]
    if pa.types.is_dictionary(values.type):
        values = pc.cast(values, values.type.value_type)
    if not any(usable(values.type) for usable in _NAME_TYPES):
        raise StoreError(
            f"{where}: column {column!r} is of type {values.type}; ids, labels and splits are names. "
            "Turn the column into strings or whole numbers first."
        )
    check_content(pa.table({column: values}), where)
    texts = pc.cast(values, pa.string())
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def check_ids(ids: pa.ChunkedArray, where: str) -> None:
    """Raise :class:`StoreError` naming the rows unless every id is there and unique."""
    if ids.null_count:
        row = int(np.flatnonzero(pc.is_null(ids).to_numpy())[0])
        raise StoreError(f"{where}: row {row} has no id; every item needs one of its own")
    if pc.count_distinct(ids).as_py() == len(ids):
        return
    chunks = ids.dictionary_encode().unify_dictionaries().chunks
    numbers = np.concatenate([chunk.indices.to_numpy() for chunk in chunks])
    first_rows = np.unique(numbers, return_index=True)[1]
    second = int(np.setdiff1d(np.arange(len(numbers)), first_rows)[0])
    first = int(np.flatnonzero(numbers == numbers[second])[0])
    raise StoreError(
        f"{where}: id {ids[second].as_py()!r} is there twice, in rows {first} and {second}; ids must be "
        "unique. Remove one of the rows, or choose another id column."
    )


def flags_from_items(items: pa.Table, modalities: Iterable[str], where: str) -> dict[str, npt.NDArray[np.bool_]]:
    """Read the columns ``has_<modality>`` that are there, as arrays ``(rows,)``.

    Raises:
        StoreError: If such a column is not of truth values, or has nulls.
    """
    flags = {}
    for modality in modalities:
        name = flag_column(modality)
        if name not in items.column_names:
            continue
        column = items[name]
        if not pa.types.is_boolean(column.type):
            raise StoreError(f"{where}: column {name!r} must be of type bool, got {column.type}")
        if column.null_count:
            row = int(np.flatnonzero(pc.is_null(column).to_numpy())[0])
            raise StoreError(f"{where}: column {name!r} is null in row {row}; expected true or false")
        flags[modality] = column.to_numpy().astype(bool)
    return flags


def with_flags(items: pa.Table, flags: Mapping[str, npt.NDArray[np.bool_]]) -> pa.Table:
    """Return ``items`` with one column ``has_<modality>`` for each entry of ``flags``."""
    for modality, present in flags.items():
        items = _set_column(items, flag_column(modality), pa.chunked_array([pa.array(present)]))
    return items


def _set_column(table: pa.Table, name: str, values: pa.ChunkedArray) -> pa.Table:
    position = table.schema.get_field_index(name)
    return table.append_column(name, values) if position < 0 else table.set_column(position, name, values)

"""Tables of items: read from a file, and given the columns that a store needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from estitchup_pl.errors import StoreError
from estitchup_pl.store import flag_column, name_hint
from estitchup_pl.store.items import names_column, refuse_empty

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson", ".json")


def read_items(path: Path | str, *, names: Collection[str] = (), drop: Collection[str] = ()) -> pa.Table:
    """Read a table of items from parquet, CSV, TSV or JSON lines, told by the file's ending.

    Args:
        path: The file; CSV and JSON lines may be compressed (``.gz``).
        names: Columns of names, which CSV reads as text: ``00123`` stays what it is.
        drop: Columns to leave out, such as embeddings; of parquet they are not even read.

    Raises:
        StoreError: If the file cannot be read, or is of another kind.
    """
    path = Path(path)
    ending = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    try:
        if ending == ".parquet":
            wanted = [name for name in pq.read_schema(path).names if name not in drop]
            return pq.ParquetFile(path).read(columns=wanted)
        if ending in _SEPARATORS:
            table = _read_csv(path, _SEPARATORS[ending], names)
        elif ending in _JSON_LINES:
            table = pyarrow.json.read_json(path)
        else:
            raise StoreError(f"{path}: expected a table that ends in .parquet, .csv, .tsv or .jsonl")
    except FileNotFoundError:
        raise StoreError(f"{path}: there is no such file") from None
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path}: cannot be read as a table ({error})") from error
    return table.drop_columns([name for name in drop if name in table.column_names])


def _read_csv(path: Path, separator: str, names: Collection[str]) -> pa.Table:
    return pyarrow.csv.read_csv(
        path,
        parse_options=pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
    )


def number_rows(items: pa.Table, where: str) -> pa.Table:
    """Give a table without ids the column ``id``: the row's number.

    Raises:
        StoreError: If the table has a column ``id``.
    """
    if "id" in items.column_names:
        raise StoreError(f"{where}: the table has a column 'id'; use it, or leave it out (--drop id)")
    return items.append_column("id", pa.array(np.arange(items.num_rows)).cast(pa.string()))


def prepare_items(
    items: pa.Table,
    where: str,
    *,
    id_column: str = "id",
    label_column: str | None = None,
    split_column: str | None = None,
    flag_columns: Mapping[str, str] | None = None,
) -> pa.Table:
    """Give a table ``id``, ``label``, ``split`` and ``has_<modality>`` from columns of other names.

    The chosen columns are copied, so that everything in the table stays what it was.

    Args:
        items: The table.
        where: What messages call it.
        id_column: Column of unique names.
        label_column: Column of class names; ``None`` for ``label`` where it is there, else for no labels.
        split_column: Column that says which split a row belongs to; ``None`` for ``split`` where it is there.
        flag_columns: For some modalities, the column that says whether an item has it.

    Raises:
        StoreError: For no rows, an unknown column (nearest name offered), one of a wrong type, or a name already
            taken.

    Example:
        >>> table = pa.table({"sku": [7, 9], "type": ["shoe", "hat"]})
        >>> prepare_items(table, "items", id_column="sku", label_column="type").to_pylist()[1]
        {'id': '9', 'label': 'hat', 'sku': 9, 'type': 'hat'}
    """
    refuse_empty(items, where)
    names = {"id": id_column, "label": label_column, "split": split_column}
    flags = {flag_column(modality): column for modality, column in (flag_columns or {}).items()}
    added = {}
    for name, column in (names | flags).items():
        if column is None:
            continue
        if column not in items.column_names:
            raise StoreError(f"{where}: no column {column!r}{name_hint(column, items.column_names)}")
        if column != name and name in items.column_names:
            raise StoreError(
                f"{where}: column {column!r} is to become {name!r}, but the table has a column {name!r} too. "
                "Rename that one, or leave it out (--drop)."
            )
        added[name] = _truth_values(items, column, where) if name in flags else names_column(items, column, where)
    others = {name: items[name] for name in items.column_names if name not in added}
    return pa.table(added | others)


def _truth_values(items: pa.Table, column: str, where: str) -> pa.ChunkedArray:
    try:
        return pc.cast(items[column], pa.bool_())
    except pa.ArrowException as error:
        raise StoreError(f"{where}: column {column!r} is not of truth values ({error})") from error

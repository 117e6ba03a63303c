"""Data sets of the Hugging Face library ``datasets``, from their folder on disk."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from estitchup_pl.errors import StoreError
from estitchup_pl.store import RowSource, name_hint
from estitchup_pl.tables.imported import Imported
from estitchup_pl.tables.lists import check_list_type, list_rows


def open_hugging_face(
    folder: Path | str, columns: Mapping[str, str], *, names: Collection[str] = (), drop: Collection[str] = ()
) -> Imported:
    """Open a Hugging Face data set that ``save_to_disk`` wrote.

    Columns of pictures and sound are left out of the table, and so are the embeddings. Where the folder holds
    several splits they follow each other, and the column ``split`` says which row is whose.

    Args:
        folder: The folder.
        columns: For each modality, its column of lists of floats.
        names: Columns of names: ids, labels. A ``ClassLabel`` among them becomes its names.
        drop: Further columns to leave out.

    Raises:
        StoreError: If the folder or a column cannot be used, or the package ``datasets`` is missing.
    """
    data = _load_from_disk(Path(folder))
    schema: pa.Schema = data.features.arrow_schema
    for column in columns.values():
        if column not in schema.names:
            raise StoreError(f"{folder}: no column {column!r}{name_hint(column, schema.names)}")
    embeddings: dict[str, RowSource] = {
        name: DatasetColumn(data.select_columns(column), column, f"{folder}:{column}")
        for name, column in columns.items()
    }
    left_out = {*columns.values(), *drop, *_media(data.features)}
    kept = [name for name in schema.names if name not in left_out]
    items = data.select_columns(kept).with_format("arrow")[:]
    for column in set(names) & set(kept):
        items = _with_class_names(items, column, data.features[column])
    return Imported(items.replace_schema_metadata(None), embeddings)


def _load_from_disk(folder: Path) -> Any:
    try:
        import datasets  # an extra, and slow to import
    except ImportError as error:
        raise StoreError(
            "reading a Hugging Face data set needs the package 'datasets': pip install 'estitchup_pl[datasets]'"
        ) from error
    try:
        data = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreError(f"{folder}: cannot be read as a Hugging Face data set ({error})") from error
    if not isinstance(data, datasets.DatasetDict):
        return data
    if any("split" in part.column_names for part in data.values()):
        return datasets.concatenate_datasets(list(data.values()))
    named = [part.add_column("split", [name] * len(part)) for name, part in data.items()]
    return datasets.concatenate_datasets(named)


def _media(features: Mapping[str, Any]) -> list[str]:
    """Columns whose values are files: they belong into no table of items."""
    return [name for name, feature in features.items() if hasattr(feature, "decode_example")]


def _with_class_names(items: pa.Table, column: str, feature: Any) -> pa.Table:
    """Replace a ``ClassLabel``'s numbers by its names; -1, its mark for no label, becomes null."""
    class_names = getattr(feature, "names", None)
    if not class_names:
        return items
    numbers = items[column].combine_chunks()
    numbers = pc.if_else(pc.less(numbers, 0), pa.scalar(None, numbers.type), numbers)
    position = items.schema.get_field_index(column)
    return items.set_column(position, column, pa.array(class_names, pa.string()).take(numbers))


class DatasetColumn:
    """Column of lists of floats in a Hugging Face data set, read in slices.

    Args:
        data: The data set, with this column alone.
        column: Its name.
        where: What messages call it.

    Raises:
        StoreError: If the column is not of lists of floats, or has nothing but nulls.
    """

    def __init__(self, data: Any, column: str, where: str) -> None:
        self._data = data.with_format("arrow")
        self._column = column
        self._where = where
        kind = data.features.arrow_schema.field(column).type
        self.dtype: np.dtype[Any] = check_list_type(kind, where)
        self.shape = (len(data), self._find_dim(kind))

    def __getitem__(self, rows: slice, /) -> npt.NDArray[Any]:
        lists = self._data[rows][self._column]
        return list_rows(lists.combine_chunks(), self.shape[1], self._where, rows.start)

    def locate(self, row: int | None = None) -> str:
        """See ``RowSource``."""
        return self._where if row is None else f"{self._where}, row {row}"

    def _find_dim(self, kind: pa.DataType) -> int:
        if pa.types.is_fixed_size_list(kind):
            return int(kind.list_size)
        for first in range(0, len(self._data), 256):
            lengths = pc.drop_null(pc.list_value_length(self._data[first : first + 256][self._column]))
            if len(lengths):
                return int(lengths[0].as_py())
        raise StoreError(f"{self._where}: every row is null; expected lists of floats")

"""Data sets of the Hugging Face library ``datasets``, from their folder on disk: items, and columns of embeddings."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from estitchup_pl.errors import ConfigError, DataError, EstitchupError, StoreError
from estitchup_pl.optional import require
from estitchup_pl.store import RowSource, name_hint
from estitchup_pl.tables.imported import Imported
from estitchup_pl.tables.lists import check_list_type, first_length, list_rows
from estitchup_pl.tables.reader import BATCH_ROWS, ItemReader, holds_files, kept_columns


class DatasetFolder(ItemReader):
    """A Hugging Face data set as ``Dataset.save_to_disk`` writes it; class labels come as their names.

    The parts of a folder that holds several follow each other, and the column ``split`` says which row is whose,
    in the names of the data set.

    Args:
        path: Folder of the data set.
        split: Take one part of a folder that holds several, e.g. ``train``.
        drop: Columns to leave out.

    Raises:
        ConfigError: If there is no such folder.
    """

    def __init__(self, path: str | Path, split: str | None = None, drop: Sequence[str] = ()) -> None:
        self.path = Path(path)
        self.split = split
        self.drop = frozenset(drop)
        if not self.path.is_dir():
            raise ConfigError(f"items: there is no folder {path}")

    @override
    def batches(self) -> Iterator[pa.RecordBatch]:
        return _batches(_load(self.path, self.split), self.drop, self.path)


def open_hugging_face(folder: Path | str, columns: Mapping[str, str], *, drop: Collection[str] = ()) -> Imported:
    """Open a Hugging Face data set whose columns hold embeddings.

    The embeddings are left out of the table, and so are columns of pictures and sound. All else is as
    :class:`DatasetFolder` reads it.

    Args:
        folder: The folder.
        columns: For each modality, its column of lists of floats.
        drop: Further columns to leave out.

    Raises:
        ConfigError: If the package ``datasets`` is missing, or a column to drop.
        StoreError: If the folder or a column cannot be used.
    """
    data = _load(Path(folder), None)
    schema: pa.Schema = data.features.arrow_schema
    for column in columns.values():
        if column not in schema.names:
            raise StoreError(f"{folder}: no column {column!r}{name_hint(column, schema.names)}")
    embeddings: dict[str, RowSource] = {
        name: DatasetColumn(data.select_columns(column), column, f"{folder}:{column}")
        for name, column in columns.items()
    }
    files = [field.name for field in schema if holds_files(field.type)]
    batches = list(_batches(data, {*columns.values(), *files, *drop}, folder))
    return Imported(pa.Table.from_batches(batches), embeddings)


def _load(folder: Path, split: str | None) -> Any:
    """Open a data set; several splits become one, with a column ``split``."""
    datasets = require("datasets", "datasets", "reading a Hugging Face data set")
    _check_arrow_files(folder)
    with _damage_told(folder):
        data = datasets.load_from_disk(str(folder))
    if not isinstance(data, datasets.DatasetDict):
        return data
    if split is not None:
        if split not in data:
            raise ConfigError(f"split: {folder} has the splits {', '.join(data)}; got {split!r}")
        return data[split]
    if not any("split" in part.column_names for part in data.values()):
        data = {name: part.add_column("split", [name] * len(part)) for name, part in data.items()}
    try:
        return datasets.concatenate_datasets(list(data.values()))
    except ValueError as error:
        raise DataError(f"{folder}: its splits have columns of different types; name one split ({error})") from error


def _batches(data: Any, drop: Collection[str], where: Path | str) -> Iterator[pa.RecordBatch]:
    names = data.column_names
    kept = [names[at] for at in kept_columns(names, drop, where)]
    classes = require("datasets", "datasets", "reading a Hugging Face data set").ClassLabel
    with _damage_told(where):
        for table in data.select_columns(kept).with_format("arrow").iter(BATCH_ROWS):
            for at, name in enumerate(table.column_names):
                if isinstance(feature := data.features[name], classes):
                    table = table.set_column(at, name, _class_names(table[name], feature.names, f"{where}:{name}"))
            yield from table.replace_schema_metadata(None).combine_chunks().to_batches()


@contextmanager
def _damage_told(where: Path | str) -> Iterator[None]:
    try:
        yield
    except EstitchupError:
        raise
    except Exception as error:  # whatever that package makes of a damaged folder
        raise DataError(
            f"{where}: not a folder that Dataset.save_to_disk wrote, or damaged ({type(error).__name__}: {error})"
        ) from error


def _check_arrow_files(folder: Path) -> None:
    """Read all Arrow files to their end in a process of its own: a damaged one, once mapped, ends the process."""
    paths = "".join(f"{path}\n" for path in sorted(folder.rglob("*.arrow")))
    command = [sys.executable, "-P", str(Path(__file__).with_name("arrow_check.py"))]
    checked = subprocess.run(command, input=paths, capture_output=True, text=True, check=False)
    if checked.returncode:
        why = checked.stderr.strip().splitlines()[-1:] or [f"reading it ended with status {checked.returncode}"]
        raise DataError(f"{folder}: damaged ({why[0]}). Copy the folder again.")


def _class_names(codes: pa.ChunkedArray, names: Sequence[str], where: str) -> pa.Array:
    """Names for a ``ClassLabel``'s numbers; -1, its mark for no label, becomes null."""
    codes = codes.combine_chunks()
    codes = pc.if_else(pc.less(codes, 0), pa.scalar(None, codes.type), codes)
    try:
        return pa.array(names, pa.string()).take(codes)
    except pa.ArrowException as error:
        raise DataError(f"{where}: a class number beyond its {len(names)} class names ({error})") from error


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
        starts = range(0, len(self._data), 256)
        self.shape = (len(data), first_length(kind, (self._lists(slice(at, at + 256)) for at in starts), where))

    def __getitem__(self, rows: slice, /) -> npt.NDArray[Any]:
        return list_rows(self._lists(rows), self.shape[1], self._where, rows.start)

    def locate(self, row: int | None = None) -> str:
        """Name of the column, and the row."""
        return self._where if row is None else f"{self._where}, row {row}"

    def _lists(self, rows: slice) -> pa.Array:
        with _damage_told(self._where):
            return self._data[rows][self._column].combine_chunks()

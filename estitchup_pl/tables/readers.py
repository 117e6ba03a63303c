"""Tables of items as they come: files, folders and Hugging Face data sets, read in batches."""

from __future__ import annotations

import gzip
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.optional import require

Format = Literal["csv", "parquet", "jsonl"]

_SUFFIXES: Final[dict[str, Format]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_BATCH_ROWS: Final = 1024


class ItemReader(ABC):
    """A source of items. Subclass it and name it in YAML for a layout of your own; one method to write.

    Attributes:
        file_roots: For columns that are known to hold paths what they are relative to: a folder or a zip file.
    """

    file_roots: Mapping[str, Path] = MappingProxyType({})

    @abstractmethod
    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the items in a fixed order, in batches of one and the same schema.

        Raises:
            DataError: For what cannot be read, naming file and row.
        """


class TableFile(ItemReader):
    """A CSV, parquet or JSON-lines file, or a folder of parquet files (read in the order of their names).

    CSV and JSON-lines files may be compressed (``.csv.gz``, ``.jsonl.gz``).

    CSV columns stay text, so that an id ``007`` stays ``007``; an empty field is null.

    Args:
        path: File or folder.
        format: ``csv``, ``parquet`` or ``jsonl``; by default what the file's name ends in.
        delimiter: Between the fields of a CSV file; by default a comma, or a tab in ``.tsv``.
        encoding: Of a CSV or JSON-lines file.

    Raises:
        ConfigError: If there is nothing at ``path``, or its format cannot be told.
    """

    def __init__(
        self,
        path: str | Path,
        format: Format | None = None,
        delimiter: str | None = None,
        encoding: str = "utf-8",
    ) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise ConfigError(f"items: there is no file or folder {path}")
        suffix = Path(self.path.name.lower().removesuffix(".gz")).suffix
        guess = "parquet" if self.path.is_dir() else _SUFFIXES.get(suffix)
        if (format or guess) not in get_args(Format):
            raise ConfigError(
                f"items: cannot tell the format of {path}; set format to one of {', '.join(get_args(Format))}"
            )
        self.format = format or guess
        self.delimiter = delimiter or ("\t" if suffix == ".tsv" else ",")
        self.encoding = encoding

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the file."""
        read = {"csv": self._csv, "parquet": self._parquet, "jsonl": self._json_lines}[str(self.format)]
        try:
            yield from read()
        except (pa.ArrowException, UnicodeDecodeError, gzip.BadGzipFile) as error:
            wrong_encoding = isinstance(error, UnicodeDecodeError) or "UTF8" in str(error)
            hint = f" It was read as {self.encoding}; set encoding." if wrong_encoding else ""
            raise DataError(f"{self.path}: cannot be read as {self.format}: {error}.{hint}") from error

    def _csv(self) -> Iterator[pa.RecordBatch]:
        parse = pa.csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True)
        read = pa.csv.ReadOptions(encoding=self.encoding)
        with pa.csv.open_csv(self.path, read, parse) as first:
            names = first.schema.names
        convert = pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
        )
        with pa.csv.open_csv(self.path, read, parse, convert) as reader:
            yield from reader

    def _parquet(self) -> Iterator[pa.RecordBatch]:
        files = sorted(self.path.rglob("*.parquet")) if self.path.is_dir() else [self.path]
        if not files:
            raise DataError(f"{self.path}: a folder without any .parquet file")
        schema = pa.parquet.read_schema(files[0])
        for file in files:
            # Without pre-buffering: it would read a file as a whole, ahead of what is asked for.
            with pa.parquet.ParquetFile(file, pre_buffer=False) as parquet:
                for batch in parquet.iter_batches(_BATCH_ROWS):
                    yield batch if batch.schema.equals(schema) else _fitted(batch, schema, file)

    def _json_lines(self) -> Iterator[pa.RecordBatch]:
        """Read twice, as columns and their types may show up in any line."""
        schema = pa.schema([])
        for rows in self._json_rows():
            names = dict.fromkeys(name for row in rows for name in row)
            some = pa.table({name: [row.get(name) for row in rows] for name in names})
            schema = pa.unify_schemas([schema, some.schema], promote_options="permissive")
        for rows in self._json_rows():
            yield pa.RecordBatch.from_pylist(rows, schema=schema)

    def _json_rows(self) -> Iterator[list[dict[str, Any]]]:
        open_text = gzip.open if self.path.suffix.lower() == ".gz" else open
        with open_text(self.path, "rt", encoding=self.encoding) as file:
            numbered = ((number, line) for number, line in enumerate(file, start=1) if line.strip())
            while lines := list(islice(numbered, _BATCH_ROWS)):
                yield [self._json_row(number, line) for number, line in lines]

    def _json_row(self, number: int, line: str) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{self.path}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise DataError(f"{self.path}, line {number}: expected an object {{...}}, got {type(row).__name__}")
        return row


def _fitted(batch: pa.RecordBatch, schema: pa.Schema, file: Path) -> pa.RecordBatch:
    """Columns of a batch in the order and types of the first file of a folder."""
    try:
        return batch.select(schema.names).cast(schema)
    except (KeyError, pa.ArrowException) as error:
        raise DataError(f"{file}: its columns do not fit those of the first file in the folder ({error})") from error


class DatasetFolder(ItemReader):
    """A Hugging Face data set as ``Dataset.save_to_disk`` writes it; class labels come as their names.

    Args:
        path: Folder of the data set.
        split: Which part to take of a folder that holds several, e.g. ``train``.

    Raises:
        ConfigError: If there is no such folder, or it holds several parts and none was named.
    """

    def __init__(self, path: str | Path, split: str | None = None) -> None:
        self.path = Path(path)
        self.split = split
        if not self.path.is_dir():
            raise ConfigError(f"items: there is no folder {path}")

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows; images and sounds as cells ``{bytes, path}``, not decoded."""
        data = self._load()
        for table in data.with_format("arrow").iter(_BATCH_ROWS):
            for name, feature in data.features.items():
                if hasattr(feature, "int2str"):
                    table = table.set_column(table.column_names.index(name), name, _names(table[name], feature))
            yield from table.combine_chunks().to_batches()

    def _load(self) -> Any:
        datasets = require("datasets", "datasets", "DatasetFolder")
        try:
            data = datasets.load_from_disk(str(self.path))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path}: not a folder written by Dataset.save_to_disk ({error})") from error
        if not isinstance(data, dict):
            return data
        if self.split not in data:
            raise ConfigError(f"items: {self.path} has the splits {', '.join(data)}; got split {self.split!r}")
        return data[self.split]


def _names(codes: pa.ChunkedArray, feature: Any) -> pa.Array:
    texts = [None if code is None or code < 0 else feature.int2str(code) for code in codes.to_pylist()]
    return pa.array(texts, pa.string())

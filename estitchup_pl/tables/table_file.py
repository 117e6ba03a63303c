"""Tables of items in files, told apart by their names."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, get_args

import pyarrow as pa
from typing_extensions import override

from estitchup_pl.errors import ConfigError
from estitchup_pl.tables.csv_file import read_csv
from estitchup_pl.tables.fashion import FashionProductImages
from estitchup_pl.tables.hugging_face import DatasetFolder
from estitchup_pl.tables.json_lines import read_json_lines
from estitchup_pl.tables.parquet import ParquetParts
from estitchup_pl.tables.reader import ItemReader

Format = Literal["csv", "parquet", "jsonl"]

_SUFFIXES: Final[dict[str, Format]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}


class TableFile(ItemReader):
    """A CSV, parquet or JSON-lines file, or a folder of parquet files (read in the order of their names).

    CSV and JSON-lines files may be compressed (``.csv.gz``, ``.jsonl.gz``).

    Columns of CSV are text, so that an id ``007`` stays ``007``; an empty field is null, and a quoted empty one an
    empty text. JSON and parquet keep their types and their nulls.

    Args:
        path: File or folder.
        format: ``csv``, ``parquet`` or ``jsonl``; by default what the file's name ends in.
        delimiter: Between the fields of a CSV file; by default a comma, or a tab in ``.tsv``.
        encoding: Of a CSV or JSON-lines file.
        drop: Columns to leave out.

    Raises:
        ConfigError: If there is nothing at ``path``, its format cannot be told, or another argument cannot be.
    """

    def __init__(
        self,
        path: str | Path,
        format: Format | None = None,
        delimiter: str | None = None,
        encoding: str = "utf-8",
        drop: Sequence[str] = (),
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
        if len(self.delimiter) != 1:
            raise ConfigError(f"items: expected a delimiter of one character, got {delimiter!r}")
        try:
            codecs.lookup(encoding)
        except LookupError:
            raise ConfigError(f"items: there is no encoding {encoding!r}; utf-8, utf-16 or cp1252 are some") from None
        self.encoding = encoding
        self.drop = frozenset(drop)

    @override
    def batches(self) -> Iterator[pa.RecordBatch]:
        if self.format == "parquet":
            return ParquetParts(self.path, drop=self.drop).batches()
        if self.format == "csv":
            return read_csv(self.path, self.delimiter, self.encoding, self.drop)
        return read_json_lines(self.path, self.encoding, self.drop)


def open_items(
    path: str | Path, *, delimiter: str | None = None, encoding: str = "utf-8", drop: Sequence[str] = ()
) -> ItemReader:
    """Choose the reader of a file or folder by what is there.

    Args:
        path: A file or folder of :class:`TableFile`, a :class:`DatasetFolder`, or the folder of
            :class:`FashionProductImages`.
        delimiter: Between the fields of a CSV file.
        encoding: Of a CSV or JSON-lines file.
        drop: Columns to leave out, which a file may name twice, or which need not be read.

    Raises:
        ConfigError: If there is nothing, or it is of no kind that is known.
    """
    path = Path(path)
    if (path / "styles.csv").is_file():
        return FashionProductImages(path, drop)
    if any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return DatasetFolder(path, drop=drop)
    return TableFile(path, delimiter=delimiter, encoding=encoding, drop=drop)

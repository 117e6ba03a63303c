"""Reader of the Fashion Product Images data set (Sec. 3.1) as Kaggle delivers it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from typing_extensions import override

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.store.items import UNTYPED
from estitchup_pl.tables.reader import ItemReader, kept_columns
from estitchup_pl.tables.text import HALF_CHARACTER, is_decoded, open_text, parse_json

_BATCH_ROWS: Final = 256
_IDENTIFIER: Final = re.compile(r"[\w-]+")
_TITLE: Final = "productDisplayName"
_COLUMNS: Final = {
    "gender": "gender",
    "masterCategory": "master_category",
    "subCategory": "sub_category",
    "articleType": "article_type",
    "baseColour": "base_colour",
    "season": "season",
    "year": "year",
    "usage": "usage",
}
_SCHEMA: Final = pa.schema(
    [(name, pa.string()) for name in ("id", "product_type", "title", "description", *_COLUMNS.values(), "image")],
    metadata=UNTYPED,
)


class FashionProductImages(ItemReader):
    """The 44 thousand products of "Fashion Product Images Dataset" (P. Aggarwal, Kaggle).

    The folder, unpacked, holds ``styles.csv`` (one line a product; the last field, the title, may hold commas
    without quotes), ``styles/<id>.json`` (``data.productTypeId`` is the paper's category, of which there are 171;
    ``data.productDescriptors.description.value`` is the description, as HTML) and ``images/<id>.jpg``.

    Columns: ``id``, ``product_type``, ``title``, ``description`` (null where there is none), ``gender``,
    ``master_category``, ``sub_category``, ``article_type``, ``base_colour``, ``season``, ``year``, ``usage`` and
    ``image`` (path relative to the folder; null where there is no file). A product without its JSON file has
    neither product type nor description.

    Args:
        root: Folder that holds ``styles.csv``.
        drop: Columns to leave out.

    Raises:
        ConfigError: If the folder lacks ``styles.csv``, ``styles/`` or ``images/``.
    """

    def __init__(self, root: str | Path, drop: Sequence[str] = ()) -> None:
        self.root = Path(root)
        self.drop = drop
        self.file_roots = {"image": self.root}
        for name in ("styles.csv", "styles", "images"):
            if not (self.root / name).exists():
                raise ConfigError(
                    f"items: {self.root} lacks {name}. Expected the unpacked Kaggle data set "
                    "paramaggarwal/fashion-product-images-dataset, with styles.csv, styles/ and images/."
                )

    @override
    def batches(self) -> Iterator[pa.RecordBatch]:
        path = self.root / "styles.csv"
        kept = kept_columns(_SCHEMA.names, self.drop, self.root)
        with open_text(path, "utf-8") as file:
            numbered = enumerate(file, start=1)
            lines = ((f"{path}, line {number}", line.rstrip("\r\n")) for number, line in numbered)
            where, header = next(lines, (f"{path}, line 1", ""))
            names = header.split(",")
            missing = {"id", _TITLE, *_COLUMNS} - set(names)
            if missing:
                raise DataError(f"{where}: expected a column {min(missing)!r}, got {', '.join(names)}")
            kept_columns(names, (), where)
            full = ((where, line) for where, line in lines if line.strip())
            while some := list(islice(full, _BATCH_ROWS)):
                rows = [self._item(where, _fields(where, line, names)) for where, line in some]
                yield pa.RecordBatch.from_pylist(rows, schema=_SCHEMA).select(kept)

    def _item(self, where: str, fields: dict[str, str]) -> dict[str, str | None]:
        if not _IDENTIFIER.fullmatch(fields["id"]):
            raise DataError(f"{where}: expected an id of letters and digits, got {fields['id']!r}; it names files")
        data = self._product(fields["id"])
        image = f"images/{fields['id']}.jpg"
        return {
            "id": fields["id"],
            "product_type": _text(data.get("productTypeId"), where),
            "title": fields[_TITLE] or _text(data.get(_TITLE), where),
            "description": _text(_at(data, "productDescriptors", "description", "value"), where),
            "image": image if (self.root / image).exists() else None,
            **{ours: fields[theirs] or None for theirs, ours in _COLUMNS.items()},
        }

    def _product(self, identifier: str) -> dict[str, Any]:
        path = self.root / "styles" / f"{identifier}.json"
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
        data = _at(parse_json(content, str(path)), "data")
        return data if isinstance(data, dict) else {}


def _fields(where: str, line: str, names: list[str]) -> dict[str, str]:
    """Split a line; what is beyond the last comma that the header accounts for belongs to the title."""
    if not is_decoded(line):
        raise DataError(f"{where}: not UTF-8; take the file as Kaggle delivers it")
    fields = line.split(",", maxsplit=len(names) - 1)
    if len(fields) < len(names):
        raise DataError(f"{where}: expected {len(names)} fields, got {len(fields)}")
    return dict(zip(names, fields, strict=True))


def _at(content: Any, *keys: str) -> Any:
    """Entry of nested objects; ``None`` where an object on the way lacks it, or is none."""
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def _text(value: Any, where: str) -> str | None:
    if value is None:
        return None
    if found := HALF_CHARACTER.search(str(value)):
        raise DataError(f"{where}: its file in styles/ holds {found[0]!a}, half a character, which no text can hold")
    return str(value)

"""Reader of the Fashion Product Images data set (Sec. 3.1) as Kaggle delivers it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.tables.readers import ItemReader

_BATCH_ROWS: Final = 256
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
    [(name, pa.string()) for name in ("id", "product_type", "title", "description", *_COLUMNS.values(), "image")]
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

    Raises:
        ConfigError: If the folder lacks ``styles.csv``, ``styles/`` or ``images/``.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.file_roots = {"image": self.root}
        for name in ("styles.csv", "styles", "images"):
            if not (self.root / name).exists():
                raise ConfigError(
                    f"items: {self.root} lacks {name}. Expected the unpacked Kaggle data set "
                    "paramaggarwal/fashion-product-images-dataset, with styles.csv, styles/ and images/."
                )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the products in the order of ``styles.csv``.

        Raises:
            DataError: If ``styles.csv`` or a product's JSON file is damaged.
        """
        path = self.root / "styles.csv"
        try:
            with path.open(encoding="utf-8") as file:
                names = file.readline().rstrip("\r\n").split(",")
                missing = {"id", _TITLE, *_COLUMNS} - set(names)
                if missing:
                    raise DataError(f"{path}, line 1: expected a column {min(missing)!r}, got {', '.join(names)}")
                lines = ((number, line.rstrip("\r\n")) for number, line in enumerate(file, start=2) if line.strip())
                while some := list(islice(lines, _BATCH_ROWS)):
                    rows = [self._item(self._fields(number, line, names)) for number, line in some]
                    yield pa.RecordBatch.from_pylist(rows, schema=_SCHEMA)
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 ({error}); take the file as Kaggle delivers it") from error

    def _fields(self, number: int, line: str, names: list[str]) -> dict[str, str]:
        """Split a line; what is beyond the last comma that the header accounts for belongs to the title."""
        fields = line.split(",", maxsplit=len(names) - 1)
        if len(fields) < len(names):
            raise DataError(
                f"{self.root / 'styles.csv'}, line {number}: expected {len(names)} fields, got {len(fields)}"
            )
        return dict(zip(names, fields, strict=True))

    def _item(self, fields: dict[str, str]) -> dict[str, str | None]:
        data = self._product(fields["id"])
        image = f"images/{fields['id']}.jpg"
        return {
            "id": fields["id"],
            "product_type": _text(data.get("productTypeId")),
            "title": fields[_TITLE] or _text(data.get(_TITLE)),
            "description": _text(_at(data, "productDescriptors", "description", "value")),
            "image": image if (self.root / image).exists() else None,
            **{ours: fields[theirs] or None for theirs, ours in _COLUMNS.items()},
        }

    def _product(self, identifier: str) -> dict[str, Any]:
        path = self.root / "styles" / f"{identifier}.json"
        try:
            data = _at(json.loads(path.read_bytes()), "data")
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise DataError(f"{path}: not JSON ({error})") from error
        return data if isinstance(data, dict) else {}


def _at(content: Any, *keys: str) -> Any:
    """Entry of nested objects; ``None`` where an object on the way lacks it, or is none."""
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def _text(value: Any) -> str | None:
    return None if value is None else str(value)

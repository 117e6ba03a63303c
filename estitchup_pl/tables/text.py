"""Files of text: decompressed, decoded, and parsed as JSON, with the line of what is wrong."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, cast

from estitchup_pl.errors import DataError

HALF_CHARACTER: Final = re.compile("[\ud800-\udfff]")
"""What JSON may hold and no file of text can."""

_UNDECODED: Final = re.compile("[\udc80-\udcff]")


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, decompressed if its name ends in ``.gz``.

    Raises:
        DataError: In the body too, if the file cannot be read to its end.
    """
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            yield cast(IO[bytes], file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged or cut off ({error}). Copy or export the file again.") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


@contextmanager
def open_text(path: Path, encoding: str) -> Iterator[io.TextIOWrapper]:
    """Open a file of text, lines as they are; bytes that cannot be decoded show in :func:`is_decoded`.

    Raises:
        DataError: As :func:`open_bytes` does.
    """
    encoding = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding  # without a byte-order mark
    with open_bytes(path) as file, io.TextIOWrapper(file, encoding, errors="surrogateescape", newline="") as text:
        yield text


def is_decoded(text: str) -> bool:
    """Whether every byte of a text from :func:`open_text` could be decoded."""
    return text.isascii() or _UNDECODED.search(text) is None


def parse_json(text: str | bytes, where: str, **options: Any) -> Any:
    """Parse one JSON text.

    Raises:
        DataError: If it is none.
    """
    try:
        return json.loads(text, **options)
    except DataError:  # what a hook among the options says
        raise
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error})") from error

"""Any picture file as the RGB that a viewer shows."""

from __future__ import annotations

import io
from typing import Any, Final

import numpy as np

from estitchup_pl.errors import DataError
from estitchup_pl.optional import require

_WHITE: Final[dict[str, tuple[int, ...]]] = {"I": (65535,), "F": (1, 255, 65535)}
"""Values that stand for white, by Pillow's mode: of floats the first that no value of the picture exceeds."""


MAX_PIXELS: Final = 50_000_000
"""Pixels of a picture at most, unless said otherwise: a few kilobytes can decode to gigabytes."""


def read_picture(content: bytes, max_pixels: int = MAX_PIXELS) -> Any:
    """Decode an image file as viewers show it.

    It is turned as its EXIF orientation says, more than 8 bits are scaled to 8 (not cut off at 255), and what is
    transparent lies over white.

    Args:
        content: Bytes of a file in any format that Pillow reads.
        max_pixels: Pixels that it may have; its first lines say how many it has.

    Returns:
        Pillow image of mode RGB.

    Raises:
        DataError: For more pixels than that, and for pixels that are no shades between black and white: negative,
            infinite, NaN, above 16 bits.
        OSError: For what Pillow cannot read.
    """
    image = require("PIL.Image", "embed", "ImageEmbedder")
    operations = require("PIL.ImageOps", "embed", "ImageEmbedder")
    with image.open(io.BytesIO(content)) as file:
        if file.width * file.height > max_pixels:
            raise DataError(f"a picture of {file.width} x {file.height} pixels, more than {max_pixels:,} (max_pixels)")
        picture = operations.exif_transpose(file)
    if picture.mode[0] in _WHITE:
        picture = image.fromarray(_eight_bits(np.asarray(picture, np.float32), _WHITE[picture.mode[0]]))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = image.alpha_composite(image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _eight_bits(values: np.ndarray[Any, np.dtype[np.float32]], whites: tuple[int, ...]) -> Any:
    """Scale shades ``(height, width)`` to 0 to 255."""
    low, high = float(values.min()), float(values.max())
    white = next((white for white in whites if low >= 0 and high <= white), None)
    if white is None:
        raise DataError(
            f"a picture with values from {low:g} to {high:g}; expected none below 0 or above {whites[-1]}. "
            "Convert it to 8 or 16 bits."
        )
    return (values * (255 / white)).round().astype(np.uint8)

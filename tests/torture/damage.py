"""Ways in which the bytes of a file go wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Random = np.random.Generator


def damaged(content: bytes, random: Random) -> bytes:
    """Damage a file in one of the ways below; the result differs from what came in."""
    for _ in range(100):
        way = WAYS[random.integers(len(WAYS))]
        if (changed := way(content, random)) != content:
            return changed
    return content + b"\0"


def flip_bit(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    if changed:
        changed[_place(len(changed), random)] ^= 1 << random.integers(8)
    return bytes(changed)


def other_bytes(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.integers(1, 17)):
        if changed:
            changed[_place(len(changed), random)] = random.integers(256)
    return bytes(changed)


def other_digits(content: bytes, random: Random) -> bytes:
    """Numbers in headers and texts become others, mostly larger ones."""
    places = [at for at, byte in enumerate(content[:20_000]) if 48 <= byte <= 57]
    if not places:
        return content
    at = places[random.integers(len(places))]
    return content[:at] + str(random.integers(10 ** random.integers(1, 12))).encode() + content[at + 1 :]


def truncate(content: bytes, random: Random) -> bytes:
    return content[: _place(len(content), random)] if content else content


def zeros(content: bytes, random: Random) -> bytes:
    at, length = _slice(content, random)
    return content[:at] + bytes(length) + content[at + length :]


def leave_out(content: bytes, random: Random) -> bytes:
    at, length = _slice(content, random)
    return content[:at] + content[at + length :]


def repeat(content: bytes, random: Random) -> bytes:
    at, length = _slice(content, random)
    return content[: at + length] + content[at:]


def splice(content: bytes, random: Random) -> bytes:
    """A piece of the file stands elsewhere in it."""
    (source, length), (target, _) = _slice(content, random), _slice(content, random)
    return content[:target] + content[source : source + length] + content[target + length :]


def insert(content: bytes, random: Random) -> bytes:
    at = _place(len(content) + 1, random)
    return content[:at] + random.bytes(int(random.integers(1, 200))) + content[at:]


WAYS: tuple[Callable[[bytes, Random], bytes], ...] = (
    flip_bit,
    flip_bit,
    other_bytes,
    other_digits,
    truncate,
    zeros,
    leave_out,
    repeat,
    splice,
    insert,
)


def _place(length: int, random: Random) -> int:
    """A place in a file: half of them near its ends, where the headers are."""
    near = min(length, 512)
    return int([random.integers(length), random.integers(near), length - 1 - random.integers(near)][_coin(random)])


def _coin(random: Random) -> int:
    return int(random.choice(3, p=[0.5, 0.25, 0.25]))


def _slice(content: bytes, random: Random) -> tuple[int, int]:
    at = _place(len(content), random) if content else 0
    return at, int(random.integers(1, 1 + max(1, min(len(content) - at, 4096))))

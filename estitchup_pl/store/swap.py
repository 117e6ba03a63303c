"""The last step of a creation: a finished store takes the place of an older one, whatever happens meanwhile.

A new store is built in ``.unfinished/`` and renamed to ``.finished/`` when it is whole. From then on the swap has
begun, and whoever next opens the store or writes to it brings it to its end.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from estitchup_pl.errors import StoreError, WriteError
from estitchup_pl.locking import locked_folder
from estitchup_pl.store.files import EMBEDDINGS_NAME, ITEMS_NAME, flush_to_disk
from estitchup_pl.store.header import HEADER_NAME

BUILD_NAME: Final = ".unfinished"
"""Folder, inside the store's, in which a store is built. Its presence marks a store that was cut off."""

WHOLE_NAME: Final = ".finished"
"""Folder, inside the store's, of a new store that is whole and is being put in place."""

_RETIRED_NAME: Final = "retired"
_WAIT_SECONDS: Final = 10.0


def begin_swap(path: Path) -> None:
    """Declare the store that was built in ``path`` whole: one renaming, after which it will take its place."""
    flush_to_disk(path / BUILD_NAME)
    (path / BUILD_NAME).replace(path / WHOLE_NAME)
    flush_to_disk(path)


def swap_has_begun(path: Path) -> bool:
    """Whether a new store is whole and not in its place yet."""
    return (path / WHOLE_NAME).is_dir()


def finish_swap(path: Path) -> bool:
    """Bring a swap to its end, if one has begun; return whether one had.

    Killed anywhere, it can be called again. The old header leaves first and the new one arrives last, so that there
    is no store in between rather than a mixed one.
    """
    if not swap_has_begun(path):
        return False
    whole = path / WHOLE_NAME
    retired = whole / _RETIRED_NAME
    retired.mkdir(exist_ok=True)
    if (whole / HEADER_NAME).exists():
        for name in (HEADER_NAME, EMBEDDINGS_NAME, ITEMS_NAME):
            if (whole / name).exists() and (path / name).exists():
                (path / name).replace(retired / name)
        flush_to_disk(path)
        for name in (EMBEDDINGS_NAME, ITEMS_NAME, HEADER_NAME):
            if (whole / name).exists():
                (whole / name).replace(path / name)
        flush_to_disk(path)
    shutil.rmtree(whole)
    return True


def finish_swap_of_another(path: Path) -> None:
    """Bring a swap to its end that a command has left, before its store is read.

    Raises:
        StoreError: If the folder cannot be written to, so that the swap stays as it is.
    """
    if not swap_has_begun(path):
        return
    try:
        with locked_folder(path, wait=_WAIT_SECONDS):
            finish_swap(path)
    except (WriteError, OSError) as error:
        raise StoreError(
            f"{path}: a store that was cut off in the last step of its creation, which cannot be finished here "
            f"({error}). Open it once with the right to write to the folder."
        ) from error

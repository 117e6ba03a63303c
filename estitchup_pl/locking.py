"""One command at a time on a folder or file: a lock that the system drops with the process that holds it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from estitchup_pl.errors import WriteError

LOCK_NAME: Final = ".estitchup.lock"
"""Name of the lock within a folder; it is gone when the folder is free, or left behind by a crash and free too."""

_MOMENT: Final = 0.2
"""Seconds that a second command waits: longer than another takes to remove its lock."""


@contextmanager
def locked_folder(folder: Path, wait: float = _MOMENT) -> Iterator[None]:
    """Keep other commands from writing to a folder, which is made if it is not there; reading it is free to all.

    Only the process that speaks for a job takes the lock, not the further processes that it starts.

    Args:
        folder: The folder. One that was made here and is still empty at the end is removed.
        wait: Seconds to wait for another command.

    Raises:
        WriteError: If another command holds the folder, or it cannot be written to.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place, locked_folder(Path(place) / "new"):
        ...     print(sorted(path.name for path in (Path(place) / "new").iterdir()))
        ['.estitchup.lock']
    """
    with _held(folder / LOCK_NAME, folder, wait):
        yield


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Keep other commands from writing a file; the lock is a hidden file beside it.

    Raises:
        WriteError: If another command is writing it, or its folder cannot be written to.
    """
    with _held(path.with_name(f".{path.name}.lock"), path, _MOMENT):
        yield


@contextmanager
def _held(lock: Path, place: Path, wait: float) -> Iterator[None]:
    made = [folder for folder in (lock.parent, *lock.parent.parents) if not folder.exists()]
    holder = FileLock(lock)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        holder.acquire(timeout=wait)
    except Timeout:
        raise WriteError(
            f"{place}: another command is writing there. Wait until it has ended, or choose another place"
        ) from None
    except OSError as error:
        raise WriteError(f"{place}: cannot be written to ({error.strerror or error})") from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file
            lock.unlink()
        holder.release()
        with suppress(OSError):  # something lies in one of them by now
            for folder in made:
                folder.rmdir()

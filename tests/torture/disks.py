"""Full and read-only disks: one of our errors, and with room again the same command goes on to the end."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from children import Outcome, WrongResultError, judged, start, status_of
from commands_at_work import WORK, Work, call, fresh, whole_or_refused
from kills import SECONDS, uninterrupted

LEVELS = (0.5, 0.1, 0.9, 0.3, 0.02, 0.7)
"""Room on the disk, as a share of what a command takes."""

_NEW_USER, _NEW_MOUNTS, _PRIVATE, _READ_ONLY, _AGAIN = 0x10000000, 0x00020000, (1 << 18) | (1 << 14), 1, 32
_LIBC = ctypes.CDLL(None, use_errno=True)


def disks(name: str, count: int, place: Path) -> Iterator[Outcome]:
    """Run a command on small disks of its own, at most six, and on one that cannot be written to."""
    work, whole = WORK[name], place / "whole"
    expected, _ = uninterrupted(work, whole)
    needs = _size(whole)
    before = _size(fresh(work, place / "before"))
    for level in LEVELS[:count]:
        room = before + int(level * (needs - before)) + (16 << 10)
        case = partial(_full, work, place, room, expected)
        yield Outcome(f"{name}, disk with room for {level:.0%}", *judged(case))
    yield Outcome(f"{name}, read-only disk", *judged(partial(_read_only, work, place)))


def _full(work: Work, place: Path, room: int, expected: object) -> None:
    _in_own_mounts(place, partial(_full_inside, work, room, expected))


def _full_inside(work: Work, room: int, expected: object, disk: Path) -> None:
    _mount(disk, f"size={room}")
    folder = fresh(work, disk / "work")
    status = _status(work, folder)
    if status == 0:  # there was room for it
        return
    said = (disk.parent / "log.txt").read_text(errors="replace")
    if status not in (1, 2) or "Traceback" in said:
        raise WrongResultError(f"ended with {status}: {said[-1500:]}")
    whole_or_refused(work, folder)
    _mount(disk, "size=512m", _AGAIN)
    status = _status(work, folder)
    if status:
        raise WrongResultError(f"with room again it ended with {status}: {_said(disk)[-1500:]}")
    if work.result(folder) != expected:
        raise WrongResultError("with room again it left something else")


def _read_only(work: Work, place: Path) -> None:
    _in_own_mounts(place, partial(_read_only_inside, work))


def _read_only_inside(work: Work, disk: Path) -> None:
    _mount(disk, "size=64m")
    folder = fresh(work, disk / "work")
    _mount(disk, "size=64m", _AGAIN | _READ_ONLY)
    status = _status(work, folder)
    said = _said(disk)
    if status not in (1, 2) or "Traceback" in said:
        raise WrongResultError(f"ended with {status}: {said[-1500:]}")


def _status(work: Work, folder: Path) -> int:
    log = str(folder.parent.parent / "log.txt")
    Path(log).unlink(missing_ok=True)
    return status_of(start(lambda: call(work.words(folder)), folder, log), SECONDS)


def _said(disk: Path) -> str:
    return (disk.parent / "log.txt").read_text(errors="replace")


def _in_own_mounts(place: Path, inside: partial[None]) -> None:
    """Run in a child that has mounts of its own; they go with it."""
    base = place / "mounts"
    shutil.rmtree(base, ignore_errors=True)
    (base / "disk").mkdir(parents=True)

    def separate() -> int:
        user, group = os.getuid(), os.getgid()
        if _LIBC.unshare(_NEW_MOUNTS if user == 0 else _NEW_USER | _NEW_MOUNTS):
            raise OSError(ctypes.get_errno(), "this machine lets nobody make a small disk")
        if user:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        _LIBC.mount(b"none", b"/", None, _PRIVATE, None)
        verdict, detail = judged(partial(inside, base / "disk"))
        (base / "verdict.txt").write_text(f"{verdict}\n{detail}")
        return 0

    status_of(start(separate, base, "outer.txt"), 3 * SECONDS)
    verdict, _, detail = (
        (base / "verdict.txt").read_text().partition("\n") if (base / "verdict.txt").exists() else ("", "", "")
    )
    if verdict != "right":
        raise WrongResultError(f"{verdict}: {detail or (base / 'outer.txt').read_text()[-500:]}")


def _mount(disk: Path, options: str, flags: int = 0) -> None:
    if _LIBC.mount(b"tmpfs", str(disk).encode(), b"tmpfs", flags, options.encode()):
        raise OSError(ctypes.get_errno(), f"cannot mount {disk}")


def _size(folder: Path) -> int:
    """Bytes that a folder takes on a disk of pages."""
    return sum(-(-path.stat().st_size // 4096) * 4096 + 4096 for path in folder.rglob("*"))

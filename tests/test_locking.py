"""One command at a time: who comes second is told so, a crash holds nothing, what was made for the lock goes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from estitchup_pl.errors import WriteError
from estitchup_pl.locking import LOCK_NAME, locked_file, locked_folder

READ_ONLY = Path("/sys/estitchup")
"""A place where not even the administrator may make anything."""


def test_who_comes_second_is_told_so_until_the_first_has_ended(tmp_path: Path) -> None:
    for lock in (locked_folder, locked_file):
        with lock(tmp_path / "a"):
            with (
                pytest.raises(WriteError, match=f"{tmp_path / 'a'}: another command is writing there"),
                lock(tmp_path / "a"),
            ):
                pass
            with lock(tmp_path / "b"):
                pass
        with lock(tmp_path / "a"):
            pass
    assert list(tmp_path.iterdir()) == []  # neither a lock nor a folder made for one


def test_a_folder_that_was_there_or_is_no_longer_empty_stays(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with locked_folder(tmp_path / "old"), locked_folder(tmp_path / "new" / "deep"):
        (tmp_path / "new" / "deep" / "file").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "file", "new", "old"]


def test_a_process_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib\n"
        "from estitchup_pl.locking import locked_folder\n"
        "with locked_folder(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(100)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WriteError, match="another command"), locked_folder(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
    assert (tmp_path / LOCK_NAME).exists()
    with locked_folder(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_place_is_named() -> None:
    for lock in (locked_folder, locked_file):
        with pytest.raises(WriteError, match=r"/sys/estitchup.*: cannot be written to \("), lock(READ_ONLY / "a"):
            pass

"""Cases run in forked processes: one may crash, hang or take all memory, and the others go on."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from estitchup_pl.errors import EstitchupError

MEMORY = 2 << 30
"""What a case may take beside what the libraries have mapped."""


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    Attributes:
        case: Its name, which says how to repeat it.
        verdict: ``right`` and ``refused`` are allowed; ``wrong``, ``error``, ``crash`` and ``hang`` are not.
        detail: What came instead.
    """

    case: str
    verdict: str
    detail: str = ""

    @property
    def allowed(self) -> bool:
        return self.verdict in ("right", "refused")


class WrongResultError(Exception):
    """A case ended with a result that is not the right one."""


class Case(NamedTuple):
    """A case: its name, and what raises :class:`WrongResultError` or any error, or returns for the right result."""

    name: str
    run: Callable[[], object]


def run_all(cases: Sequence[Case], seconds: float = 120) -> Iterator[Outcome]:
    """Run cases one after the other in a child, and in a further child after each that ends one."""
    waiting = list(cases)
    while waiting:
        for outcome in _in_one_child(tuple(waiting), seconds):
            waiting.pop(0)
            yield outcome


def _in_one_child(cases: Sequence[Case], seconds: float) -> Iterator[Outcome]:
    readable, writable = os.pipe()
    child = fork(lambda: _work(cases, writable))
    os.close(writable)
    with os.fdopen(readable) as answers:
        for case in cases:
            line = answers.readline() if select.select([answers], [], [], seconds)[0] else None
            if line:
                yield Outcome(case.name, **json.loads(line))
                continue
            if line is None:
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            yield Outcome(case.name, "hang" if line is None else "crash", f"status {os.waitstatus_to_exitcode(status)}")
            return
    os.waitpid(child, 0)


def _work(cases: Sequence[Case], writable: int) -> None:
    silence()
    with Path("/proc/self/statm").open() as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, resource.RLIM_INFINITY))
    for case in cases:
        verdict, detail = judged(case.run)
        os.write(writable, (json.dumps({"verdict": verdict, "detail": detail}) + "\n").encode())


def judged(run: Callable[[], object]) -> tuple[str, str]:
    """Run a case and say how it ended."""
    try:
        run()
    except EstitchupError as error:
        return "refused", str(error)[:300]
    except WrongResultError as error:
        return "wrong", str(error)[:1000]
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-4:]
        where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(last))
        return "error", f"{type(error).__name__}: {str(error)[:300]} ({where})"
    return "right", ""


def start(
    work: Callable[[], Any], folder: Path, log: str = "log.txt", environment: dict[str, str] | None = None
) -> int:
    """Start work in a child in its own folder, its output in a file there; return its process id."""

    def inside() -> None:
        os.chdir(folder)
        silence(folder / log)
        os.environ.update(environment or {})
        os._exit(int(work() or 0))

    return fork(inside)


def status_of(child: int, seconds: float) -> int:
    """Wait for a child; its exit status, negative for a signal, 1000 where it had to be killed for its time."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 1000


def fork(work: Callable[[], object]) -> int:
    """Do work in a child, which ends with status 0, or 99 and a traceback; return its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, where threads are there
        child = os.fork()
    if child:
        return child
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        work()
        os._exit(0)
    except SystemExit as stop:
        os._exit(stop.code if isinstance(stop.code, int) else 1)
    except BaseException:
        traceback.print_exc()
        os._exit(99)


def silence(path: Path = Path(os.devnull)) -> None:
    """Send what is printed to a file."""
    warnings.simplefilter("ignore")
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for handle in (1, 2):
        os.dup2(target, handle)

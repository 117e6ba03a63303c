"""The quick sample of the torture, in a process of its own.

Its cases run in forked processes. A child of a process whose OpenMP threads have started waits for them for ever, so
that process has one thread, as `make torture` has.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SAMPLE = Path(__file__).with_name("sample.py")


def test_a_sample_of_the_torture() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(SAMPLE)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=SAMPLE.parents[2], timeout=600, env=environment
    )
    assert result.returncode == 0, result.stdout + result.stderr

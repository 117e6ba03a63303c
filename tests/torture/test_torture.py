"""The quick sample of the torture, in a process of its own.

Its cases run in forked processes, and what is forked must not hold the threads that other tests have started.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SAMPLE = Path(__file__).with_name("sample.py")


def test_a_sample_of_the_torture() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(SAMPLE)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=SAMPLE.parents[2], timeout=280)
    assert result.returncode == 0, result.stdout + result.stderr

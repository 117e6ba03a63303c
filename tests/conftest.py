"""Fixtures for the whole suite: real data where it is at hand, and quiet, offline libraries."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("suite", deadline=None)  # the first call of a test may import for seconds
settings.load_profile("suite")
settings.register_profile("mutants", max_examples=16, derandomize=True, database=None, deadline=None)

collect_ignore_glob = ["*/conftest.py"]  # they hold fixtures, no doctests, and share one name

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # Lightning 2.6 uses what jsonargparse 4.50 renamed

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


LONG = (
    *("test_study_workers", "test_tutorial", "test_study_resuming", "train/", "test_processes", "torture/"),
    *("serving/", "test_cli_lightning", "test_every_function", "test_study_keeping", "test_embed_resume"),
    *("test_docs", "test_sklearn"),
)
"""Files that take half a minute or longer."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files: one that came last would run alone, all other processes idle."""
    items.sort(key=lambda item: not any(name in item.path.as_posix() for name in LONG))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any) -> Generator[None]:
    """Say in the closing lines that no browser was found, so that nobody takes the page for tested."""
    yield
    left_out = [report for report in terminalreporter.getreports("skipped") if "no browser" in str(report.longrepr)]
    if left_out:
        reason = left_out[0].longrepr[2].removeprefix("Skipped: ")
        terminalreporter.write_line(f"LEFT OUT: {len(left_out)} tests of the report's page; {reason}", yellow=True)


@pytest.fixture
def file_limit() -> Callable[[int], AbstractContextManager[None]]:
    """A limit of so many bytes on every file that is written: what a full disk does, without one."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture
def memory_limit() -> Callable[[int], AbstractContextManager[None]]:
    """A limit of so many bytes on what this process takes beside what it has."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not say how much memory a process has")

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (taken + size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)

    return limited


def _folder_or_skip(name: str) -> Path:
    folder = SHARED_DATA / name
    if not folder.is_dir():
        pytest.skip(f"real data folder {name!r} is not at hand ({folder})")
    return folder


@pytest.fixture(scope="session")
def fashion_dir() -> Path:
    """Folder of the real fashion embeddings (items.parquet, title.npy, image.npy, images_sample.zip)."""
    return _folder_or_skip("fashion")


@pytest.fixture(scope="session")
def weights_dir() -> Path:
    """Folder of real MobileNet v2 weights for timm."""
    return _folder_or_skip("weights")

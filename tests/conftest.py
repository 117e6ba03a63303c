"""Fixtures for the whole suite: real data where it is at hand, and quiet, offline libraries."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

collect_ignore_glob = ["*/conftest.py"]  # they hold fixtures, no doctests, and share one name

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # Lightning 2.6 uses what jsonargparse 4.50 renamed

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


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

"""Fixtures for the tests of stores."""

from __future__ import annotations

import pytest
from small_store import small_embeddings, small_table

from estitchup_pl.store import EmbeddingStore


@pytest.fixture
def store(tmp_path) -> EmbeddingStore:
    """Ten rows in three shards."""
    return EmbeddingStore.create(tmp_path / "store", small_table(), small_embeddings(), rows_per_shard=4)

"""The store of embeddings: a folder that numpy and pyarrow alone can read."""

from estitchup_pl.store.embedding_store import EmbeddingStore
from estitchup_pl.store.files import (
    DTYPES,
    FORMAT_VERSION,
    HEADER_NAME,
    ITEMS_NAME,
    ModalityInfo,
    StoreHeader,
    read_header,
    shard_path,
    write_header,
    write_items,
    write_shard,
)
from estitchup_pl.store.items import flag_column, name_hint, normalize_items
from estitchup_pl.store.labels import Rows, StoreLabels
from estitchup_pl.store.sources import RowSource

__all__ = [
    "DTYPES",
    "FORMAT_VERSION",
    "HEADER_NAME",
    "ITEMS_NAME",
    "EmbeddingStore",
    "ModalityInfo",
    "RowSource",
    "Rows",
    "StoreHeader",
    "StoreLabels",
    "flag_column",
    "name_hint",
    "normalize_items",
    "read_header",
    "shard_path",
    "write_header",
    "write_items",
    "write_shard",
]

"""The store of embeddings: a folder that numpy and pyarrow alone can read.

Read `header` (the layout), `files` (writing each file whole or not at all) and `items` (the table's checks) first; then
`sources`, `blocks`, `creation` and `swap` (how a store is made), `shards`, `embedding_store`, `labels` and
`verification` (how one is read), and `relabeling` and `label_history` (how its labels change).
"""

from estitchup_pl.store.embedding_store import EmbeddingStore
from estitchup_pl.store.files import DTYPES, ITEMS_NAME, digest_file, shard_name, shard_path, write_items, write_shard
from estitchup_pl.store.header import FORMAT_VERSION, HEADER_NAME, ModalityInfo, StoreHeader, read_header, write_header
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
    "digest_file",
    "flag_column",
    "name_hint",
    "normalize_items",
    "read_header",
    "shard_name",
    "shard_path",
    "write_header",
    "write_items",
    "write_shard",
]

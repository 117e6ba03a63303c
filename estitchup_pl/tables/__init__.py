"""Everything that reads what people have: tables of items, and embeddings in files and folders of other tools."""

from estitchup_pl.tables.clip_retrieval import open_clip_retrieval
from estitchup_pl.tables.columns import check_column, number_rows, prepare_items
from estitchup_pl.tables.embeddings import columns_within, open_embeddings, split_place
from estitchup_pl.tables.fashion import FashionProductImages
from estitchup_pl.tables.hugging_face import DatasetFolder, open_hugging_face
from estitchup_pl.tables.imported import Imported
from estitchup_pl.tables.numpy_files import ConcatenatedRows, NpyFile, open_npz
from estitchup_pl.tables.parquet import open_parquet_column
from estitchup_pl.tables.reader import ItemReader, holds_files, read_items
from estitchup_pl.tables.table_file import TableFile, open_items

__all__ = [
    "ConcatenatedRows",
    "DatasetFolder",
    "FashionProductImages",
    "Imported",
    "ItemReader",
    "NpyFile",
    "TableFile",
    "check_column",
    "columns_within",
    "holds_files",
    "number_rows",
    "open_clip_retrieval",
    "open_embeddings",
    "open_hugging_face",
    "open_items",
    "open_npz",
    "open_parquet_column",
    "prepare_items",
    "read_items",
    "split_place",
]

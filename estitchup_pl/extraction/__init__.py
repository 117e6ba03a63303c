"""From a raw catalogue to an embedding store (Secs. 2.1, 3.2): frozen encoders, run by Lightning, resumable."""

from estitchup_pl.extraction.embedder import Embedder, Prepared
from estitchup_pl.extraction.fashion import FashionProductImages
from estitchup_pl.extraction.image import ImageEmbedder, average_pool
from estitchup_pl.extraction.markup import strip_markup
from estitchup_pl.extraction.predict import Modality
from estitchup_pl.extraction.publishing import ModalityReport
from estitchup_pl.extraction.readers import DatasetFolder, ItemReader, TableFile
from estitchup_pl.extraction.run import EmbedSummary, embed_items
from estitchup_pl.extraction.text import TextEmbedder, first_pool, last_pool, mean_pool

__all__ = [
    "DatasetFolder",
    "EmbedSummary",
    "Embedder",
    "FashionProductImages",
    "ImageEmbedder",
    "ItemReader",
    "Modality",
    "ModalityReport",
    "Prepared",
    "TableFile",
    "TextEmbedder",
    "average_pool",
    "embed_items",
    "first_pool",
    "last_pool",
    "mean_pool",
    "strip_markup",
]

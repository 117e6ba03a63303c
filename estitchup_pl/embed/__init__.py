"""From a raw catalogue to an embedding store (Secs. 2.1, 3.2): frozen encoders, one resumable loop."""

from estitchup_pl.embed.embedder import Embedder, Prepared
from estitchup_pl.embed.finish import EmbedSummary, ModalityReport
from estitchup_pl.embed.image import ImageEmbedder, average_pool
from estitchup_pl.embed.markup import strip_markup
from estitchup_pl.embed.modality import Modality
from estitchup_pl.embed.recipe import modality_of, moved_recipe, refuse_other_recipe
from estitchup_pl.embed.run import embed_items
from estitchup_pl.embed.text import TextEmbedder, first_pool, last_pool, mean_pool

__all__ = [
    "EmbedSummary",
    "Embedder",
    "ImageEmbedder",
    "Modality",
    "ModalityReport",
    "Prepared",
    "TextEmbedder",
    "average_pool",
    "embed_items",
    "first_pool",
    "last_pool",
    "mean_pool",
    "modality_of",
    "moved_recipe",
    "refuse_other_recipe",
    "strip_markup",
]

"""Decisions about new items in one call: embed as the model was trained, decide, write (``estitchup predict``)."""

from estitchup_pl.predicting.choosing import Choice, RowsOf, read_ids
from estitchup_pl.predicting.encoding import Arrays, RawItems
from estitchup_pl.predicting.whole import Predicted, predict_items

__all__ = ["Arrays", "Choice", "Predicted", "RawItems", "RowsOf", "predict_items", "read_ids"]

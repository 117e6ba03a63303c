"""From a store to batches: the data module, the splits of its rows, and the digits."""

from estitchup_pl.data.datamodule import EmbeddingDataModule, open_store
from estitchup_pl.data.digits import digits_store
from estitchup_pl.data.id_split import IdSplit
from estitchup_pl.data.splits import (
    AllRows,
    ColumnSplit,
    FoldSplit,
    RowsPerClass,
    Split,
    SplitProtocol,
    StratifiedSplit,
    ThresholdSplit,
    TrialSplit,
)

__all__ = [
    "AllRows",
    "ColumnSplit",
    "EmbeddingDataModule",
    "FoldSplit",
    "IdSplit",
    "RowsPerClass",
    "Split",
    "SplitProtocol",
    "StratifiedSplit",
    "ThresholdSplit",
    "TrialSplit",
    "digits_store",
    "open_store",
]

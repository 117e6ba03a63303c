"""What a run is, and what it has found, for Weights & Biases, TensorBoard and MLflow."""

from estitchup_pl.dashboards.boards import Board, Table, board_of
from estitchup_pl.dashboards.callback import Dashboard
from estitchup_pl.dashboards.description import file_of, record_of

__all__ = ["Board", "Dashboard", "Table", "board_of", "file_of", "record_of"]

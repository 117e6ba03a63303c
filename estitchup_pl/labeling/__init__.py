"""From decisions to labels and back: what to label next, for whom, and what people answered."""

from estitchup_pl.labeling.answers import Answer, LabelChanges, compare_answers
from estitchup_pl.labeling.pool import Pool
from estitchup_pl.labeling.queue import build_queue
from estitchup_pl.labeling.simulation import Simulation, labels_needed
from estitchup_pl.labeling.strategies import STRATEGIES, QueryStrategy

__all__ = [
    "STRATEGIES",
    "Answer",
    "LabelChanges",
    "Pool",
    "QueryStrategy",
    "Simulation",
    "build_queue",
    "compare_answers",
    "labels_needed",
]

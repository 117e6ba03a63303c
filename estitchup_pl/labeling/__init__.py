"""From decisions to labels and back: what to label next, for whom, and what people answered."""

from estitchup_pl.labeling.answers import Answer, LabelChanges, compare_answers
from estitchup_pl.labeling.payoff import Payoff, labels_needed, payoffs
from estitchup_pl.labeling.pool import Pool
from estitchup_pl.labeling.queue import build_queue
from estitchup_pl.labeling.rounds import RoundsFolder
from estitchup_pl.labeling.simulation import Simulation
from estitchup_pl.labeling.strategies import STRATEGIES, QueryStrategy

__all__ = [
    "STRATEGIES",
    "Answer",
    "LabelChanges",
    "Payoff",
    "Pool",
    "QueryStrategy",
    "RoundsFolder",
    "Simulation",
    "build_queue",
    "compare_answers",
    "labels_needed",
    "payoffs",
]

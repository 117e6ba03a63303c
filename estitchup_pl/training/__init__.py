"""From data to a model in one call: embed, choose, measure, refit (``estitchup train``)."""

from estitchup_pl.training.budget import Plan, plan_for
from estitchup_pl.training.catalogue import Catalogue
from estitchup_pl.training.whole import Trained, train

__all__ = ["Catalogue", "Plan", "Trained", "plan_for", "train"]

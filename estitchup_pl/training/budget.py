"""How much is fitted before a choice is made: plans of growing size, and the one that a budget pays for."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from joblib import cpu_count

from estitchup_pl.errors import ConfigError, did_you_mean
from estitchup_pl.study.workers import PRODUCTS_A_SECOND, SECONDS_A_STEP

BATCH: Final = 128
CYCLE: Final = 12
"""Epochs of one cycle of the learning rate (Sec. 3.4), the least that a fit takes and what it takes a multiple of."""

MOST_EPOCHS: Final = 576
"""Epochs of the paper's fits."""

NETWORKS: Final = 3
"""Methods that train a network; what a linear head costs is little beside them."""


@dataclass(frozen=True)
class Plan:
    """What is fitted.

    Attributes:
        folds: Folds of the cross-fitting: each row is tested once, by fits that have not seen it.
        repeats: Threshold splits of a fold.
        steps: Steps of the optimizer in a fit, as far as whole cycles of the learning rate allow.
        candidates: Combinations of alpha and softness that are compared; 0 for the usual ones without a comparison.

    Example:
        >>> PRESETS["standard"].fits, PRESETS["standard"].epochs(4400)
        (108, 84)
    """

    folds: int
    repeats: int
    steps: int
    candidates: int = 0

    @property
    def fits(self) -> int:
        """Fits of networks: in each fold and on all rows the threshold splits, the candidates, and the last ones."""
        return (self.folds + 1) * (NETWORKS * (self.repeats + 1) + self.candidates)

    def epochs(self, rows: int) -> int:
        """Epochs of a fit to so many rows."""
        cycles = round(self.steps / math.ceil(rows / BATCH) / CYCLE)
        return min(MOST_EPOCHS, CYCLE * max(1, cycles))

    def minutes(self, rows: int, width: int, classes: int) -> float:
        """Estimate how long the cores of this machine take.

        Args:
            rows: Labelled rows.
            width: Columns of the embeddings.
            classes: Their classes.
        """
        weights = width * 250 + 250 * 250 + 250 * classes
        step = SECONDS_A_STEP + 6 * weights * BATCH / PRODUCTS_A_SECOND
        steps = self.epochs(rows) * math.ceil(rows / BATCH)
        return self.fits * steps * step / int(cpu_count()) / 60


LADDER: Final = (
    Plan(folds=2, repeats=1, steps=300),
    Plan(folds=3, repeats=2, steps=600),
    Plan(folds=3, repeats=3, steps=1500),
    Plan(folds=5, repeats=5, steps=3000),
    Plan(folds=5, repeats=5, steps=8000),
    Plan(folds=5, repeats=5, steps=20000, candidates=12),
)
"""Plans from the smallest to the largest."""

PRESETS: Final = {"quick": LADDER[1], "standard": LADDER[3], "thorough": LADDER[5]}

_AMOUNT: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(fits?|min|minutes?|h|hours?)")


def plan_for(budget: str, rows: int, width: int, classes: int) -> Plan:
    """Take the largest plan that a budget pays for, or the smallest one if it pays for none.

    Args:
        budget: ``quick``, ``standard`` or ``thorough``; a number of fits of a network, ``"60 fits"``; or minutes,
            ``"30 min"``, by an estimate for the cores of this machine.
        rows: Labelled rows.
        width: Columns of the embeddings.
        classes: Their classes.

    Raises:
        ConfigError: If it is no budget.

    Example:
        >>> plan_for("40 fits", rows=1000, width=384, classes=10)
        Plan(folds=3, repeats=2, steps=600, candidates=0)
    """
    if budget in PRESETS:
        return PRESETS[budget]
    found = _AMOUNT.fullmatch(budget.strip().lower())
    if found is None:
        raise ConfigError(
            f"budget: expected {', '.join(PRESETS)}, or an amount such as '60 fits' or '30 min', got "
            f"{budget!r}{did_you_mean(budget, PRESETS)}"
        )
    amount, unit = float(found[1]), found[2]
    if unit.startswith("fit"):
        return _largest([plan for plan in LADDER if plan.fits <= amount])
    minutes = amount * 60 if unit.startswith("h") else amount
    return _largest([plan for plan in LADDER if plan.minutes(rows, width, classes) <= minutes])


def _largest(affordable: Sequence[Plan]) -> Plan:
    return affordable[-1] if affordable else LADDER[0]

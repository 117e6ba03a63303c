"""The optimizers and schedules of all runs, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from estitchup_pl.errors import ConfigError


@dataclass
class RunOptimizer:
    """Optimizer and schedule of one run, as its classifier configured them.

    Attributes:
        optimizer: Works on the run's own weights.
        scheduler: Its schedule, if any.
        interval: ``"step"`` or ``"epoch"``.
    """

    optimizer: Optimizer
    scheduler: LRScheduler | None = None
    interval: str = "epoch"

    @classmethod
    def of(cls, name: str, configured: Any) -> RunOptimizer:
        """Understand what ``configure_optimizers`` of the run called ``name`` returned.

        Raises:
            ConfigError: If it is not one optimizer with at most one schedule that needs no metric.
        """
        if isinstance(configured, Optimizer):
            return cls(configured)
        if isinstance(configured, dict) and isinstance(configured.get("optimizer"), Optimizer):
            schedule = configured.get("lr_scheduler", {"scheduler": None})
            if not isinstance(schedule, dict):
                schedule = {"scheduler": schedule}
            scheduler = schedule["scheduler"]
            if isinstance(scheduler, LRScheduler | None) and not isinstance(scheduler, ReduceLROnPlateau):
                return cls(configured["optimizer"], scheduler, schedule.get("interval", "epoch"))
        raise ConfigError(
            f"{name}: a run of a stack needs one optimizer with at most one schedule that follows no metric, got "
            f"{configured!r}; fit this run alone"
        )

    def advance(self, interval: str) -> None:
        """Step the schedule if it moves at this interval."""
        if self.scheduler is not None and self.interval == interval:
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """State of optimizer and schedule."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])


class StackedOptimizer(Optimizer):
    """Steps the optimizer of each run on that run's share of the gradients.

    Args:
        parameters: Weights of the stack.
        runs: Optimizer of each run.
        share_gradients: Called with a run before its optimizer steps.

    Attributes:
        active: Runs that take part in the step at hand.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        runs: list[RunOptimizer],
        share_gradients: Callable[[int], None],
    ) -> None:
        super().__init__(parameters, {})
        self.runs = runs
        self.active: Collection[int] = range(len(runs))
        self._share_gradients = share_gradients

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Step the active runs, then their schedules."""
        loss = None if closure is None else closure()
        for run in self.active:
            self._share_gradients(run)
            own = self.runs[run]
            own.optimizer.step()
            own.optimizer.zero_grad()
            own.advance("step")
        return loss

    def state_dict(self) -> dict[str, Any]:
        """States of all runs, in their order."""
        return {"runs": [run.state_dict() for run in self.runs]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the states of all runs."""
        for run, state in zip(self.runs, state_dict["runs"], strict=True):
            run.load_state_dict(state)

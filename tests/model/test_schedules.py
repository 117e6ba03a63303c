"""The cycle of the learning rate against its definition."""

from __future__ import annotations

import pytest
import torch

from estitchup_pl.errors import ConfigError
from estitchup_pl.model.schedules import TriangularCycle


def rates(schedule: TriangularCycle, steps: int) -> list[float]:
    out = []
    for _ in range(steps):
        out.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    return out


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def test_it_rises_for_six_epochs_and_falls_for_six_at_every_batch() -> None:
    schedule = TriangularCycle(optimizer())
    schedule.set_steps_per_epoch(35)
    half = 6 * 35
    expected = [3e-4 + (3e-3 - 3e-4) * (1 - abs(step % (2 * half) - half) / half) for step in range(900)]
    assert rates(schedule, 900) == pytest.approx(expected)


def test_a_resumed_cycle_goes_on_where_it_stopped() -> None:
    whole = TriangularCycle(optimizer(), steps_per_epoch=3)
    expected = rates(whole, 30)
    first = TriangularCycle(optimizer(), steps_per_epoch=3)
    rates(first, 10)
    second = TriangularCycle(optimizer(), steps_per_epoch=3)
    second.load_state_dict(first.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    assert rates(second, 20) == pytest.approx(expected[10:])


@pytest.mark.parametrize("options", [{"base_lr": 0.0}, {"base_lr": 0.1, "max_lr": 0.01}, {"cycle_epochs": 0}])
def test_impossible_cycles_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        TriangularCycle(optimizer(), **options)

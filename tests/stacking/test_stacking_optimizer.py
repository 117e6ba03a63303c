"""AdamW over runs against PyTorch's, run by run."""

from __future__ import annotations

import pytest
import torch

from estitchup_pl.model.schedules import TriangularCycle
from estitchup_pl.stacking.optimizer import StackedAdamW, settings_of_epoch
from estitchup_pl.stacking.recipe import OptimizerRecipe, Recipe

OWN = OptimizerRecipe((0.9, 0.999), 1e-8, 1e-4, (3e-4, 3e-3), 3)
OTHER = OptimizerRecipe((0.7, 0.9), 1e-3, 0.1, (0.01, 0.01), None)


def stacked_recipes(recipes: tuple[OptimizerRecipe, ...]) -> list[Recipe]:
    return [Recipe(0, 1.0, None, recipe, ()) for recipe in recipes]


@pytest.mark.parametrize("recipes", [(OWN, OTHER), (OWN, OWN)], ids=["unlike", "alike"])
@pytest.mark.parametrize("steps", [(4, 4), (4, 2)], ids=["equal epochs", "unequal epochs"])
def test_each_run_is_stepped_as_torch_steps_it(recipes: tuple[OptimizerRecipe, ...], steps: tuple[int, int]) -> None:
    torch.manual_seed(0)
    start = [torch.randn(2, 3, 4), torch.randn(2, 1, 3)]
    stacked = [weight.clone() for weight in start]
    optimizer = StackedAdamW(stacked, max(steps))
    singles = []
    for run, (recipe, count) in enumerate(zip(recipes, steps, strict=True)):
        own = [torch.nn.Parameter(weight[run].clone()) for weight in start]
        single = torch.optim.AdamW(
            own, lr=recipe.lr[0], betas=recipe.betas, eps=recipe.eps, weight_decay=recipe.weight_decay
        )
        schedule = TriangularCycle(single, *recipe.lr, recipe.cycle_epochs or 1, count) if recipe.cycle_epochs else None
        singles.append((own, single, schedule))
    for epoch in range(3):
        optimizer.begin_epoch(settings_of_epoch(stacked_recipes(recipes), steps, epoch, range(2)))
        for step in range(max(steps)):
            gradients = [torch.randn_like(weight) for weight in stacked]
            optimizer.step(torch.tensor(step), gradients)
            for run, (own, single, schedule) in enumerate(singles):
                if step < steps[run]:
                    for weight, gradient in zip(own, gradients, strict=True):
                        weight.grad = gradient[run].clone()
                    single.step()
                    if schedule:
                        schedule.step()
                for weight, expected in zip(stacked, own, strict=True):
                    torch.testing.assert_close(weight[run], expected.detach(), rtol=2e-6, atol=1e-7)


def test_a_run_that_has_ended_keeps_its_weights() -> None:
    weights = [torch.randn(2, 3, 4)]
    before = weights[0].clone()
    optimizer = StackedAdamW(weights, 2)
    for epoch in range(2):
        optimizer.begin_epoch(
            settings_of_epoch(stacked_recipes((OWN, OWN)), (2, 2), epoch, {0, 1} if epoch == 0 else {1})
        )
        for step in range(2):
            optimizer.step(torch.tensor(step), [torch.ones(2, 3, 4)])
        before, after = weights[0].clone(), before
    assert torch.equal(weights[0][0], after[0])
    assert not torch.equal(weights[0][1], after[1])

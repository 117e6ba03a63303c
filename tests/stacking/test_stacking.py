"""A run of a stack ends as it would have ended alone, and as the plain formulas say."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from blobs import blobs_store
from lightning.pytorch.callbacks import EarlyStopping
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from training import classifier, trainer, weights

from estitchup_pl import EmbeddingClassifier, EmbeddingDataModule, EmbeddingMLP
from estitchup_pl.callbacks import EmbeddingAugmentation, EMixup, EStitchup, LabelSoftening
from estitchup_pl.data.splits import ThresholdSplit, TrialSplit
from estitchup_pl.errors import ConfigError
from estitchup_pl.functional import e_mixup, soften_labels
from estitchup_pl.functional import random_bits as bits
from estitchup_pl.model.schedules import TriangularCycle
from estitchup_pl.seeding import derive_seed, stream_key
from estitchup_pl.stacking import FittedRun, Run, device, fit_runs
from estitchup_pl.stacking.fit import prepare
from estitchup_pl.stacking.mixing import StackMixing
from estitchup_pl.stacking.program import Program
from estitchup_pl.stacking.recipe import read_recipe

STORE = blobs_store()
EPOCHS = 4
METHODS: dict[str, Callable[[], list[pl.Callback]]] = {
    "Control": list,
    "Soft Control": lambda: [LabelSoftening(0.2)],
    "E-Mixup": lambda: [EMixup(0.3)],
    "E-Stitchup": lambda: [EStitchup(0.4)],
    "Soft E-Mixup": lambda: [EMixup(0.9), LabelSoftening(0.1)],
    "Soft E-Stitchup": lambda: [EStitchup(0.1), LabelSoftening(0.3)],
}


def run(position: int, **options: object) -> Run:
    """Make a run that differs from the others in everything that a run may have of its own."""
    name = list(METHODS)[position % len(METHODS)]
    split = TrialSplit(trial=position, train_fraction=0.5, unknown_classes=("fox",))
    if position % 6 == 1:  # fewer rows and fewer classes
        split = ThresholdSplit(TrialSplit(position, 0.5), position, held_out=2)
    model = classifier(
        scaling="standardize" if position == 2 else "none",
        optimizer=partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.01 * position, fused=True),
        lr_scheduler=partial(TriangularCycle, max_lr=0.003 * (1 + position), cycle_epochs=3),
    )
    data = EmbeddingDataModule(STORE, split, batch_size=32)
    return Run(
        **{
            "name": f"{name} {position}",
            "model": model,
            "data": data,
            "callbacks": METHODS[name](),
            "seed": position,
            **options,
        },
    )


def fit(runs: list[Run], epochs: int = EPOCHS, **options: Any) -> list[FittedRun]:
    return list(fit_runs(runs, epochs, **{"accelerator": "cpu", "stack_size": len(runs), **options}))


def assert_close(one: torch.nn.Module, other: torch.nn.Module, rtol: float = 1e-4) -> None:
    expected = weights(other)
    assert weights(one).keys() == expected.keys()
    for name, value in weights(one).items():
        scale = expected[name].abs().max().item() if expected[name].numel() else 0.0
        torch.testing.assert_close(value, expected[name], rtol=rtol, atol=rtol * scale)


def reference(own: Run, epochs: int) -> list[torch.Tensor]:
    """Train as the paper and the docs say, item by item, with nothing but layers and optimizers of PyTorch."""
    own.data.setup("fit")
    names = own.data.class_names
    rows = torch.from_numpy(own.data.parts.train)
    own.data.describe_to(own.model)
    x = own.model.scale(torch.from_numpy(STORE.gather(own.data.parts.train)).float())
    y = F.one_hot(torch.from_numpy(own.data.labels.index(names)[own.data.parts.train]), len(names)).float()
    torch.manual_seed(derive_seed(own.seed, "network"))
    template = EmbeddingMLP(x.shape[-1], len(names), hidden=(16,))
    first, second = torch.nn.Linear(x.shape[-1], 16), torch.nn.Linear(16, len(names))
    for layer, source in ((first, template[0]), (second, template[3])):
        layer.load_state_dict(source.state_dict())
    parameters = [*first.parameters(), *second.parameters()]
    optimizer = own.model.build_optimizer(parameters)
    schedule = own.model.build_lr_scheduler(optimizer)
    schedule.set_steps_per_epoch(math.ceil(len(rows) / 32))
    kinds = {type(callback): callback for callback in own.callbacks}

    def draw(purpose: str, *counter: int, count: int) -> torch.Tensor:
        return bits.random_words(torch.tensor(stream_key(own.seed, purpose)), torch.tensor(counter), count)

    for epoch in range(epochs):
        order = draw("shuffle", epoch, 0, 0, count=len(rows)).argsort()
        for batch, items in enumerate(order.split(32)):
            inputs, targets = x[items], y[items]
            words = draw("pairs", epoch, batch, 0, count=2 * len(items)).view(-1, 2)
            circle = words[:, 0].argsort().tolist()
            partner = torch.empty(len(items), dtype=torch.int64)
            for place, item in enumerate(circle):
                partner[item] = circle[(place + 1) % len(circle)]
            for kind, callback in kinds.items():
                if kind is LabelSoftening:
                    targets = soften_labels(targets, callback.softness)
                    continue
                lam = bits.to_beta(words[:, 1], torch.tensor(callback.alpha))
                mixed, targets = e_mixup(inputs, targets, lam, partner)
                if kind is EStitchup:
                    levels = bits.to_levels(
                        draw("stitch", epoch, batch, 0, count=32 * x.shape[1] // 4), 32 * x.shape[1]
                    )
                    keep = bits.below(levels.view(32, -1)[: len(items)], lam[:, None])
                    mixed = torch.where(keep, inputs, inputs[partner])
                inputs = mixed
            levels = bits.to_levels(draw("dropout", epoch, batch, 0, count=32 * 16 // 4), 32 * 16).view(32, 16)
            kept = round(0.7 * 2**16)
            dropout = (levels[: len(items)].int() + 2**15 < kept) * (2**16 / kept)
            logits = second(torch.relu(first(inputs) * dropout))
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(logits, targets).backward()
            optimizer.step()
            schedule.step()
    return [parameter.detach() for parameter in parameters]


def test_every_method_of_a_stack_does_what_the_plain_formulas_say() -> None:
    runs = [run(position) for position in range(6)]
    assert not any(fitted.diverged for fitted in fit(runs))
    assert len({len(own.data.parts.train) for own in runs}) > 1
    assert len({len(own.model.class_names) for own in runs}) > 1
    for position, own in enumerate(runs):
        for value, expected in zip(own.model.network.parameters(), reference(run(position), EPOCHS), strict=True):
            torch.testing.assert_close(value.detach(), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_each_run_of_a_stack_is_centered_by_its_own_training_rows() -> None:
    def own(position: int) -> Run:
        other = {"image": "standardize"} if position == 2 else {}
        return run(position, model=classifier(scaling={"title": "centered_l2", **other}))

    runs = [own(position) for position in (0, 2, 3)]
    assert len({read_recipe(one).shape for one in runs}) == 1
    fit(runs)
    assert not torch.equal(runs[0].model.scale.mean, runs[2].model.scale.mean)
    for one in runs:
        for value, expected in zip(one.model.network.parameters(), reference(own(one.seed), EPOCHS), strict=True):
            torch.testing.assert_close(value.detach(), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_a_run_depends_on_no_other() -> None:
    runs = [run(position) for position in range(6)]
    fit(runs)
    for position, own in enumerate(runs):
        single = run(position)
        fit([single])
        assert_close(own.model, single.model, rtol=1e-5)


class Operations(TorchDispatchMode):
    """Counts what is dispatched."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += 1
        return func(*args, **(kwargs or {}))


def count_operations(size: int) -> int:
    """Count the operations of the second step of a stack of the six methods in turn."""
    runs = [run(position) for position in range(size)]
    recipes = [recipe for own in runs if (recipe := read_recipe(own))]
    assert len(recipes) == size
    order = sorted(range(size), key=lambda position: recipes[position].mixer)
    for own in runs:
        prepare(own, torch.device("cpu"))
    program = Program([runs[k] for k in order], [recipes[k] for k in order], torch.device("cpu"), compile="none")
    program.begin_epoch(0, range(size))
    program.step()
    with Operations() as operations:
        program.step()
    return operations.count


def test_a_step_has_no_more_operations_where_there_are_more_runs() -> None:
    assert count_operations(18) == count_operations(6) > 50
    assert count_operations(16) <= 1.1 * count_operations(6)


def test_a_run_that_diverges_is_named_and_harms_no_other() -> None:
    hot = classifier(optimizer=partial(torch.optim.AdamW, lr=1e38), lr_scheduler=None)
    runs = [run(0), run(3, model=hot), run(2)]
    with pytest.warns(UserWarning, match="E-Stitchup 3: the loss is not finite after epoch"):
        fitted = fit(runs)
    assert [one.run.name for one in fitted if one.diverged] == ["E-Stitchup 3"]
    for position in (0, 2):
        single = run(position)
        fit([single])
        (own,) = (own for own in runs if own.seed == position)
        assert_close(own.model, single.model, rtol=1e-5)


def test_an_epoch_ends_with_the_longest_run_that_still_takes_part() -> None:
    hot = classifier(optimizer=partial(torch.optim.AdamW, lr=1e38), lr_scheduler=None)
    short, long = run(1), run(3, model=hot)
    assert len(short.data.parts.train) + 32 < len(long.data.parts.train)
    with pytest.warns(UserWarning, match="E-Stitchup 3: the loss is not finite"):
        fit([short, long])
    single = run(1)
    fit([single])
    assert_close(short.model, single.model, rtol=1e-5)


def test_who_watches_sees_each_epoch_of_a_run(tmp_path: Path) -> None:
    class Own(EmbeddingAugmentation):
        def mix(self, embeddings, targets, lam, index, generator):
            return embeddings, targets

    seen: dict[str, list[tuple[int, torch.Tensor]]] = {}
    inputs = torch.from_numpy(STORE.gather(np.arange(5))).float()

    def watched(position: int, **options: object) -> Run:
        own = run(position, **options)
        own.watch = lambda epoch, model: seen.setdefault(own.name, []).append(
            (epoch, model.network.eval()(inputs).detach())
        )
        return own

    runs = [watched(0), watched(3), watched(4, callbacks=[Own()])]
    assert [one.run for one in fit(runs, 3)] == runs  # the last one by the Trainer
    for own in runs:
        assert [epoch for epoch, _ in seen[own.name]] == [1, 2, 3]
        assert not torch.equal(seen[own.name][0][1], seen[own.name][1][1])
    for own in runs:
        torch.testing.assert_close(
            seen[own.name][-1][1], EmbeddingClassifier.forward(own.model.eval(), inputs).detach()
        )


def test_what_a_program_does_not_know_is_fitted_alone(tmp_path: Path) -> None:
    class Other(EmbeddingClassifier):
        pass

    class Curved(EmbeddingMLP):
        def forward(self, x):
            return super().forward(x).tanh()

    class OwnMixup(EMixup):
        pass

    plateau = partial(torch.optim.lr_scheduler.StepLR, step_size=1)
    unknown = [
        run(0, name="model", model=Other(partial(EmbeddingMLP, hidden=(16,)))),
        run(0, name="network", model=classifier(network=Curved)),
        run(0, name="schedule", model=classifier(lr_scheduler=plateau)),
        run(0, name="optimizer", model=classifier(optimizer=partial(torch.optim.SGD, lr=0.1), lr_scheduler=None)),
        run(0, name="augmentation", callbacks=[OwnMixup()]),
        run(0, name="loss", model=classifier(loss=torch.nn.BCEWithLogitsLoss)),
        run(0, name="stop", callbacks=[EarlyStopping("train/loss", check_on_train_epoch_end=True)]),
    ]
    assert [read_recipe(own) for own in unknown] == [None] * len(unknown)
    fitted = fit([*unknown[-3:], run(5)], 2)
    assert [one.run.name for one in fitted] == ["Soft E-Stitchup 5", "augmentation", "loss", "stop"]
    pl.seed_everything(0, verbose=False)
    alone = run(0, model=classifier(loss=torch.nn.BCEWithLogitsLoss))
    trainer(tmp_path, 2, limit_val_batches=0).fit(alone.model, alone.data)
    assert_close(fitted[2].run.model, alone.model, rtol=1e-6)


def test_a_run_alone_that_diverges_is_told_as_well() -> None:
    hot = classifier(optimizer=partial(torch.optim.SGD, lr=1e30), lr_scheduler=None)
    with pytest.warns(UserWarning, match="E-Stitchup 3: the loss is not finite"):
        (fitted,) = fit([run(3, model=hot)])
    assert fitted.diverged


def test_stacks_have_the_size_asked_for_and_runs_of_one_shape() -> None:
    runs = [run(0), run(1), run(2, model=classifier(network=partial(EmbeddingMLP, hidden=(8, 8)))), run(3)]
    fitted = fit(runs, 1, stack_size=2)
    assert {one.run.name for one in fitted[:2]} == {"Soft Control 1", "Control 0"}  # the fewest rows first
    assert fitted[-1].run is runs[2]
    assert sorted(one.run.name for one in fitted) == sorted(own.name for own in runs)


def test_products_in_sixteen_bits_stay_close() -> None:
    exact, rough = run(3), run(3)
    fit([exact])
    fit([rough], precision="bf16-mixed")
    assert next(rough.model.parameters()).dtype == torch.float32
    assert not torch.equal(rough.model.network[0].weight, exact.model.network[0].weight)
    assert_close(rough.model, exact.model, rtol=0.2)


def test_embeddings_are_mixed_in_sixteen_bits_where_they_are_multiplied_in_them() -> None:
    runs = [run(position) for position in (0, 2, 3)]  # nothing mixed, E-Mixup, E-Stitchup; one standardizes
    recipes = [recipe for own in runs if (recipe := read_recipe(own))]
    for own in runs:
        prepare(own, torch.device("cpu"))
    scales, classes = [own.model.scale for own in runs], torch.tensor([7, 7, 7])
    embeddings = torch.from_numpy(STORE.gather(np.arange(len(STORE))))
    wide, narrow = (
        StackMixing(recipes, scales, embeddings, classes, dtype) for dtype in (torch.float32, torch.bfloat16)
    )
    rows = torch.randint(len(STORE), (3, 32), generator=torch.Generator().manual_seed(0))
    levels = torch.randint(-(2**15), 2**15, (1, 32, embeddings.shape[1]), generator=torch.Generator().manual_seed(1))
    batch = rows, rows[1:].flip(-1), torch.rand(2, 32), levels.to(torch.int16)
    mixed, expected = narrow.mix(*batch), wide.mix(*batch)
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed[[0, 2]], expected[[0, 2]].bfloat16(), rtol=0, atol=0)  # taken, not computed
    torch.testing.assert_close(mixed[1].float(), expected[1], rtol=0.02, atol=0.02)


@pytest.mark.parametrize(("has", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_is_sixteen_bits_where_the_device_has_them(
    has: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "has_bfloat16", lambda place: has)
    assert device.choose_precision("auto", torch.device("cpu")) == precision
    assert device.choose_precision("64-true", torch.device("cpu")) == "64-true"


def test_a_fitted_run_is_an_ordinary_classifier(tmp_path: Path) -> None:
    own = run(2)
    fit([own])
    (result,) = trainer(tmp_path).test(own.model, own.data, verbose=False)
    assert result["test/loss"] < 1
    assert torch.isfinite(own.model.predict_proba({"title": torch.zeros(1, 7), "image": torch.zeros(1, 5)})).all()


def test_options_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(ConfigError, match="stack_size must be at least 1"):
        fit_runs([run(0)], 1, stack_size=0)
    with pytest.raises(ConfigError, match="two runs are called 'Control 0'"):
        fit_runs([run(0), run(0)], 1, accelerator="cpu")
    with pytest.raises(ConfigError, match="needs a GPU"):
        fit_runs([run(0)], 1, accelerator="cpu", compile="graph")
    with pytest.raises(ConfigError, match="compile must be"):
        fit_runs([run(0)], 1, accelerator="cpu", compile="fast")  # type: ignore[arg-type]


def test_runs_in_other_processes_end_as_in_this_one() -> None:
    """Stacks of two in two processes, and one run that no program knows; the caller's own classifiers are fitted."""
    made = {workers: [run(position) for position in range(4)] for workers in (1, 2)}
    for runs in made.values():
        runs.append(run(4, callbacks=[EStitchup(0.2), EarlyStopping("train/loss", patience=9)]))
    with device.one_thread():
        here = fit(made[1], 2, stack_size=2)
    there = fit(made[2], 2, stack_size=2, workers=2)
    assert {one.run.name for one in there} == {own.name for own in made[2]}
    assert not any(one.diverged for one in (*here, *there))
    for own, other in zip(made[1], made[2], strict=True):
        expected = weights(own.model)
        assert {name: value.tolist() for name, value in weights(other.model).items()} == {
            name: value.tolist() for name, value in expected.items()
        }
        assert other.model.class_names == own.model.class_names


def test_a_run_that_is_watched_is_fitted_in_this_process() -> None:
    with pytest.raises(ConfigError, match=r"Control 0: has `watch`.*workers=1"):
        fit([run(0, watch=lambda epoch, model: None)], workers=2)

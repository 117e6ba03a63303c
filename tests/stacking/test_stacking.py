"""A run of a stack ends as it would have ended alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from blobs import blobs_store
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from training import SMALL, by_name, classifier, trainer, weights

from estitchup_pl import EmbeddingClassifier, EmbeddingDataModule, EmbeddingMLP
from estitchup_pl.callbacks import EMixup, EStitchup, LabelSoftening
from estitchup_pl.data.splits import ThresholdSplit, TrialSplit
from estitchup_pl.errors import ConfigError
from estitchup_pl.model.schedules import TriangularCycle
from estitchup_pl.stacking import Run, StackedClassifier, StackedDataModule, fit_runs

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
    if position == 1:  # fewer rows and fewer classes
        split = ThresholdSplit(TrialSplit(position, 0.5), position, held_out=2)
    model = classifier(
        scaling="standardize" if position == 2 else "none",
        optimizer=partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.01 * position, fused=True),
        lr_scheduler=partial(TriangularCycle, max_lr=0.003 * (1 + position), cycle_epochs=3),
    )
    data = EmbeddingDataModule(STORE, split, batch_size=32)
    return Run(
        f"{name} {position}",
        **{"model": model, "data": data, "callbacks": METHODS[name](), "seed": position, **options},
    )


def alone(folder: Path, own: Run, epochs: int = EPOCHS) -> EmbeddingClassifier:
    pl.seed_everything(own.seed, verbose=False)
    trainer(folder, epochs, callbacks=list(own.callbacks), limit_val_batches=0).fit(own.model, own.data)
    return own.model


def stacked(folder: Path, runs: list[Run], epochs: int = EPOCHS, **options: object) -> StackedClassifier:
    stack = StackedClassifier(runs)
    trainer(folder, epochs, **options).fit(stack, StackedDataModule(runs))
    return stack


def assert_close(one: torch.nn.Module, other: torch.nn.Module, rtol: float = 1e-4) -> None:
    expected = weights(other)
    assert weights(one).keys() == expected.keys()
    for name, value in weights(one).items():
        scale = expected[name].abs().max().item() if expected[name].numel() else 0.0
        torch.testing.assert_close(value, expected[name], rtol=rtol, atol=rtol * scale)


def test_every_method_ends_in_a_stack_as_it_does_alone(tmp_path: Path) -> None:
    runs = [run(position) for position in range(6)]
    stacked(tmp_path, runs)
    assert len({len(own.data.parts.train) for own in runs}) > 1
    assert len({len(own.model.class_names) for own in runs}) > 1
    for position, own in enumerate(runs):
        single = run(position)
        assert_close(own.model, alone(tmp_path, single))
        here, there = (trainer(tmp_path).test(some.model, some.data, verbose=False)[0] for some in (own, single))
        assert here == pytest.approx(there, abs=1e-3, nan_ok=True)


def test_a_run_depends_on_no_other(tmp_path: Path) -> None:
    one, three = [run(3)], [run(0), run(3), run(5)]
    stacked(tmp_path, one)
    stacked(tmp_path, three)
    assert_close(three[1].model, one[0].model, rtol=1e-5)


def test_a_run_is_an_ordinary_checkpoint(tmp_path: Path) -> None:
    runs = [run(0), run(1), run(2)]
    stack = stacked(tmp_path, runs)
    for position in (1, 2):
        stack.save_run(position, tmp_path / "run.ckpt")
        loaded = EmbeddingClassifier.load_from_checkpoint(tmp_path / "run.ckpt", network=SMALL)
        torch.testing.assert_close(weights(loaded), weights(runs[position].model))
        (again,) = trainer(tmp_path).test(
            classifier(scaling=runs[position].model.scaling),
            runs[position].data,
            ckpt_path=tmp_path / "run.ckpt",
            verbose=False,
            weights_only=True,
        )
        (first,) = trainer(tmp_path).test(runs[position].model, runs[position].data, verbose=False)
        assert again == pytest.approx(first, nan_ok=True)
    assert (tmp_path / "run.ckpt").stat().st_size < 20_000  # its own weights, not the whole stack's


def test_a_run_that_diverges_is_named_and_harms_no_other(tmp_path: Path) -> None:
    hot = classifier(optimizer=partial(torch.optim.SGD, lr=1e30), lr_scheduler=None)
    runs = [run(0), run(3, model=hot), run(2)]
    with pytest.warns(UserWarning, match="E-Stitchup 3: the loss is not finite"):
        stack = stacked(tmp_path, runs)
    assert stack.diverged == ["E-Stitchup 3"]
    for position in (0, 2):
        assert_close(runs[position].model, alone(tmp_path, run(position)))


def test_a_run_that_stops_early_keeps_its_weights_while_others_go_on(tmp_path: Path) -> None:
    stop = EarlyStopping("train/loss", patience=1, min_delta=10.0, check_on_train_epoch_end=True)
    runs = [run(0, callbacks=[stop]), run(3)]
    stacked(tmp_path, runs)
    assert_close(runs[0].model, alone(tmp_path, run(0), epochs=2))
    assert_close(runs[1].model, alone(tmp_path, run(3)))


def test_an_epoch_ends_with_the_longest_run_that_still_takes_part(tmp_path: Path) -> None:
    hot = classifier(optimizer=partial(torch.optim.SGD, lr=1e30), lr_scheduler=None)
    runs = [run(1), run(3, model=hot)]
    assert len(runs[0].data.parts.train) + 32 < len(runs[1].data.parts.train)
    with pytest.warns(UserWarning, match="E-Stitchup 3: the loss is not finite"):
        stacked(tmp_path, runs)
    assert_close(runs[0].model, alone(tmp_path, run(1)))


def test_gradients_are_clipped_run_by_run(tmp_path: Path) -> None:
    runs = [run(0), run(3)]
    stacked(tmp_path, runs, gradient_clip_val=0.05)
    for position, own in zip((0, 3), runs, strict=True):
        single = run(position)
        pl.seed_everything(single.seed, verbose=False)
        trainer(tmp_path, EPOCHS, callbacks=list(single.callbacks), limit_val_batches=0, gradient_clip_val=0.05).fit(
            single.model, single.data
        )
        assert_close(own.model, single.model)


def test_a_resumed_stack_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, half, rest = ([run(0), run(1), run(3)] for _ in range(3))
    stacked(tmp_path, whole)
    first = trainer(tmp_path, 2)
    first.fit(StackedClassifier(half), StackedDataModule(half))
    first.save_checkpoint(tmp_path / "half.ckpt")
    second = trainer(tmp_path, EPOCHS)
    second.fit(StackedClassifier(rest), StackedDataModule(rest), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    for own, resumed in zip(whole, rest, strict=True):
        assert_close(resumed.model, own.model, rtol=1e-6)


def test_runs_log_under_their_own_names(tmp_path: Path) -> None:
    runs = [run(0), run(3)]
    stack = StackedClassifier(runs)
    fit = trainer(tmp_path, 1, logger=CSVLogger(tmp_path), log_every_n_steps=1)
    fit.fit(stack, StackedDataModule(runs))
    assert set(fit.callback_metrics) == {"Control 0/train/loss", "E-Stitchup 3/train/loss"}


def test_fit_runs_takes_stacks_of_a_size_and_yields_each_run_once() -> None:
    runs = [run(position) for position in (0, 1, 2, 3)]
    fitted = list(fit_runs(runs, 2, stack_size=3, accelerator="cpu"))
    assert fitted[0].run.name == "Soft Control 1"  # the fewest rows
    assert sorted(one.run.name for one in fitted) == sorted(own.name for own in runs)
    assert not any(one.diverged for one in fitted)
    assert all(own.model.predict_proba(by_name(STORE, [0])).isfinite().all() for own in runs)


def test_what_cannot_be_stacked_is_refused(tmp_path: Path) -> None:
    class Other(EmbeddingClassifier):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx)

    class Curved(EmbeddingMLP):
        def forward(self, x):
            return super().forward(x).tanh()

    with pytest.raises(ConfigError, match="Control 0: Other overrides training_step"):
        StackedClassifier([run(0, model=Other())])
    with pytest.raises(ConfigError, match="two runs of a stack are called 'Control 0'"):
        StackedClassifier([run(0), run(0)])
    with pytest.raises(ConfigError, match="Control 0: a checkpoint callback"):
        StackedClassifier([run(0, callbacks=[ModelCheckpoint()])])
    with pytest.raises(ConfigError, match="share one store"):
        StackedDataModule([run(0), run(1, data=EmbeddingDataModule(blobs_store()))])
    with pytest.raises(ConfigError, match="cannot stack a Curved"):
        stacked(tmp_path, [run(0, model=classifier(network=Curved))])
    with pytest.raises(ConfigError, match="networks of different layers"):
        stacked(tmp_path, [run(0), run(1, model=classifier(network=partial(EmbeddingMLP, hidden=(8,))))])
    with pytest.raises(ConfigError, match="accumulate_grad_batches"):
        stacked(tmp_path, [run(0)], accumulate_grad_batches=2)
    plateau = partial(torch.optim.lr_scheduler.ReduceLROnPlateau)
    with pytest.raises(ConfigError, match="Control 0: a run of a stack needs one optimizer"):
        stacked(tmp_path, [run(0, model=classifier(lr_scheduler=plateau))])
    with pytest.raises(ConfigError, match="stack_size must be at least 1"):
        fit_runs([run(0)], 1, stack_size=0)

"""Numbers at the edges of what they may be: finite weights and probabilities between 0 and 1, or one of our errors."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pyarrow as pa
import torch
from children import Case, Outcome, WrongResultError, run_all

from estitchup_pl import EmbeddingClassifier, EmbeddingDataModule, EmbeddingMLP
from estitchup_pl.callbacks import EMixup, EStitchup, LabelSoftening
from estitchup_pl.data import ColumnSplit
from estitchup_pl.functional import (
    e_mixup,
    e_stitchup,
    sample_lambda,
    sample_pairs,
    sample_stitch_mask,
    select_threshold,
    soften_labels,
)
from estitchup_pl.metrics import default_metrics
from estitchup_pl.store import EmbeddingStore

ALPHAS = (0.01, 0.1, 1.0, 10.0, 100.0)
SOFTNESS = (0.0, 0.1, 1.0)
ROWS, DIM = 64, 5


Embeddings = dict[str, Callable[[np.random.Generator], np.ndarray]]

EMBEDDINGS: Embeddings = {
    "normal": lambda random: random.normal(size=(ROWS, DIM)).astype(np.float32),
    "constant": lambda random: np.ones((ROWS, DIM), np.float32),
    "zeros but one": lambda random: np.eye(ROWS, DIM, dtype=np.float32),
    "largest float16": lambda random: (random.choice([-65504, 65504], (ROWS, DIM))).astype(np.float16),
    "smallest float16": lambda random: np.full((ROWS, DIM), 6e-8, np.float16),
    "largest float32": lambda random: np.full((ROWS, DIM), 3.4e38, np.float32),
    "two values": lambda random: random.integers(1, 3, (ROWS, DIM)).astype(np.float32),
}
LABELS: dict[str, Callable[[int], str | None]] = {
    "classes": lambda row: f"class-{row % 4}",
    "one class": lambda row: "only",
    "a class a row": lambda row: f"class-{row}",
    "few labelled": lambda row: f"class-{row % 3}" if row % 8 < 2 else None,
}
UNKNOWN: dict[str, tuple[str, ...]] = {
    "no none": (),
    "some none": ("class-1",),
    "all but one none": ("class-1", "class-2", "class-3"),
}


def fits_of(name: str) -> Iterator[Case]:
    """Fits over embeddings of a kind, with every kind of labels."""
    for (labels, label), (unknown, names) in itertools.product(LABELS.items(), UNKNOWN.items()):
        for scaling in ("none", "l2", "standardize"):
            parts = partial(_fit, EMBEDDINGS[name], label, names, scaling, 1.0, 0.1)
            yield Case(f"{name}, {labels}, {unknown}, scaling {scaling}", parts)


def fits_by_parameters() -> Iterator[Case]:
    """Fits over parameters of the methods, and one with very many classes."""
    for alpha, softness in itertools.product(ALPHAS, SOFTNESS):
        for name in ("constant", "normal"):
            parts = partial(_fit, EMBEDDINGS[name], LABELS["classes"], (), "none", alpha, softness)
            yield Case(f"{name}, alpha {alpha}, softness {softness}", parts)
    yield Case("100,000 classes", _many_classes)


def _fit(
    make: Callable[..., np.ndarray],
    label: Callable[[int], str | None],
    unknown: tuple[str, ...],
    scaling: Any,
    alpha: float,
    softness: float,
) -> None:
    random = np.random.default_rng(0)
    labels = [label(row) for row in range(ROWS)]
    items = pa.table(
        {
            "id": [str(row) for row in range(ROWS)],
            "label": pa.array(labels, pa.string()),
            "split": [
                "train" if row % 4 < 2 and labels[row] not in unknown else ("val", "test")[row % 2]
                for row in range(ROWS)
            ],
        }
    )
    store = EmbeddingStore.from_arrays(items, {"v": make(random)})
    data = EmbeddingDataModule(store, ColumnSplit("split"), batch_size=16, predict_rows="all")
    model = EmbeddingClassifier(network=partial(EmbeddingMLP, hidden=(8,)), scaling=scaling)
    augmentation = EMixup(alpha) if softness else EStitchup(alpha)
    _run(model, data, [augmentation, LabelSoftening(softness)])


def _run(model: EmbeddingClassifier, data: EmbeddingDataModule, callbacks: list[pl.Callback]) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    run = pl.Trainer(accelerator="cpu", devices=1, max_epochs=2, num_sanity_val_steps=0, callbacks=callbacks, **quiet)
    run.fit(model, data)
    _check(model)
    for prediction in run.predict(model, data):
        _between_0_and_1(prediction["probabilities"])
    run.test(model, data, verbose=False)


def _check(model: torch.nn.Module) -> None:
    for name, value in model.named_parameters():
        if not torch.isfinite(value).all():
            raise WrongResultError(f"{name} is not finite")


def _between_0_and_1(values: torch.Tensor) -> None:
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise WrongResultError(f"values from {values.min()} to {values.max()}")


def numerics(name: str, count: int) -> Iterator[Outcome]:
    """Run at most so many of the cases of a kind, evenly chosen."""
    cases = list(NUMERICS[name]())
    chosen = sorted({round(at) for at in np.linspace(0, len(cases) - 1, min(count, len(cases)))})
    yield from run_all([cases[at] for at in chosen], seconds=240)


def _many_classes() -> None:
    classes = 100_000
    names = [f"class-{row}" for row in range(classes)]
    items = pa.table({"id": names, "label": names, "split": ["train"] * (classes - 4) + ["val", "val", "test", "test"]})
    store = EmbeddingStore.from_arrays(
        items, {"v": np.random.default_rng(0).normal(size=(classes, 2)).astype(np.float16)}
    )
    data = EmbeddingDataModule(store, ColumnSplit("split"), batch_size=64, eval_batch_size=4)
    model = EmbeddingClassifier(network=partial(EmbeddingMLP, hidden=(4,)))
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    pl.Trainer(accelerator="cpu", devices=1, max_steps=3, limit_val_batches=1, **quiet).fit(model, data)
    _check(model)


def functions() -> Iterator[Case]:
    """Metrics, thresholds and mixing."""
    kinds = (torch.float32, torch.float64)
    for alpha, dtype, rows in itertools.product(ALPHAS, kinds, (1, 2, 7)):
        for stitch in (False, True):
            name = "e_stitchup" if stitch else "e_mixup"
            yield Case(f"{name}, {alpha}, {dtype}, {rows} rows", partial(_mix, stitch, alpha, dtype, rows))
    for softness, dtype, classes in itertools.product(SOFTNESS, kinds, (1, 2, 100)):
        yield Case(f"soften_labels, {softness}, {dtype}, {classes}", partial(_soften, softness, dtype, classes))
    for scores, labels in itertools.product(PROBABILITIES, TARGETS):
        yield Case(f"metrics, {scores}, {labels}", partial(_metrics, PROBABILITIES[scores], TARGETS[labels]))
        for heuristic in ("intersection", "tp_ratio"):
            case = partial(_threshold, PROBABILITIES[scores], TARGETS[labels], heuristic)
            yield Case(f"select_threshold {heuristic}, {scores}, {labels}", case)


PROBABILITIES: dict[str, Callable[[], torch.Tensor]] = {
    "ties": lambda: torch.full((12, 3), 0.5),
    "zeros": lambda: torch.zeros(12, 3),
    "ones": lambda: torch.ones(12, 3),
    "drawn": lambda: torch.rand(12, 3, generator=torch.Generator().manual_seed(0)),
    "least above zero": lambda: torch.full((12, 3), 1e-45),
    "one class": lambda: torch.rand(12, 1, generator=torch.Generator().manual_seed(0)),
    "no rows": lambda: torch.zeros(0, 3),
}
TARGETS: dict[str, Callable[[int, int], torch.Tensor]] = {
    "known": lambda rows, classes: torch.arange(rows) % classes,
    "all none": lambda rows, classes: torch.full((rows,), -1),
    "half none": lambda rows, classes: torch.where(torch.arange(rows) % 2 == 0, -1, torch.arange(rows) % classes),
    "one known": lambda rows, classes: torch.where(torch.arange(rows) == 0, 0, -1),
}


def _mix(stitch: bool, alpha: float, dtype: torch.dtype, rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings, targets = torch.full((rows, 4), 65504.0, dtype=dtype), torch.eye(4, dtype=dtype)[torch.arange(rows) % 4]
    lam = sample_lambda((rows,), alpha, generator=generator, dtype=dtype)
    index = sample_pairs((rows,), generator=generator)
    if stitch:
        mask = sample_stitch_mask(lam, 4, generator=generator)
        mixed, targets = e_stitchup(embeddings, targets, lam, index, mask)
    else:
        mixed, targets = e_mixup(embeddings, targets, lam, index)
    if not torch.allclose(mixed, embeddings, rtol=1e-6):
        raise WrongResultError(f"equal values mixed to {mixed.max()}")
    _between_0_and_1(targets)


def _soften(softness: float, dtype: torch.dtype, classes: int) -> None:
    softened = soften_labels(torch.eye(classes, dtype=dtype), softness)
    if not torch.isfinite(softened).all():
        raise WrongResultError("not finite")


def _metrics(scores: Callable[[], torch.Tensor], labels: Callable[[int, int], torch.Tensor]) -> None:
    preds = scores()
    target = labels(*preds.shape)
    for name, metric in default_metrics().items():
        metric.update(preds, target)
        computed = metric.compute()
        for value in computed.values() if isinstance(computed, dict) else [computed]:
            if not bool(torch.isnan(value) | (value >= -1) & (value <= 1)):  # NaN where there is no value
                raise WrongResultError(f"{name} is {value}")


def _threshold(scores: Callable[[], torch.Tensor], labels: Callable[[int, int], torch.Tensor], heuristic: Any) -> None:
    preds = scores()
    threshold = select_threshold(*preds.max(dim=-1), labels(*preds.shape), heuristic)
    if not 0 <= float(threshold) <= 1:
        raise WrongResultError(f"threshold {threshold}")


NUMERICS: dict[str, Callable[[], Iterator[Case]]] = {
    **{f"fits, {name}": partial(fits_of, name) for name in EMBEDDINGS},
    "fits by parameters": fits_by_parameters,
    "functions": functions,
}

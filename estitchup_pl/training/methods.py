"""The study behind ``estitchup train``: methods that have each been the best somewhere, and a choice among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from estitchup_pl.study import SelectionConfig, StudyConfig
from estitchup_pl.study.building import Plain
from estitchup_pl.training.budget import Plan

CHOSEN: Final = "Chosen"
"""The method that is refitted."""

LEFT_OUT: Final = 0.2
"""Share of the classes that are unknown in each fold, and again in each threshold split."""

FEWEST_CLASSES: Final = 3
"""Classes below which none can be left out so that two are still told apart."""

ROWS_FOR_LDA: Final = 6
"""Rows that half of the classes need, so that in every fit some class has two, and LDA sees how classes spread."""

Description = dict[str, Any]


def train_methods(plan: Plan, lda: bool = True) -> dict[str, Plain]:
    """Describe the methods by name: networks, linear heads and their average, each decided in two ways, and the choice.

    A temperature changes no ranking, so the choice is among calibrated ones. First stands the average, "none" told
    by confidence and distances: best or hardly below it wherever it was measured, it is taken unless the user's rows
    say otherwise. Where hardly any rows train logistic regression stands there.

    Args:
        plan: Says whether alpha and softness are compared.
        lda: Whether LDA is among them, which needs several rows of most classes.
    """
    stitch = {"class_path": "EStitchup", "init_args": {"alpha": 0.4}}
    soften = {"class_path": "LabelSoftening", "init_args": {"softness": 0.1}}
    alpha, softness = {"alpha": [0.2, 0.4, 0.8]}, {"softness": [0.05, 0.1, 0.2]}
    fitted: dict[str, Description] = {
        "E-Stitchup": {"callbacks": [stitch], "grid": alpha if plan.candidates else {}},
        "Soft E-Stitchup": {"callbacks": [stitch, soften], "grid": {**alpha, **softness} if plan.candidates else {}},
        "Control": {},
        "Logistic regression": _head("LogisticRegression"),
        **({"LDA": _head("LDA")} if lda else {}),
    }
    unlike = [name for name in fitted if name != "Control"]
    fitted["Unlike heads"] = _described("Ensemble", base=unlike)
    temperature = {
        f"{name}, temperature": _described("Decided", base=name, calibrator="Temperature") for name in fitted
    }
    by_sum = {"calibrator": "Temperature", "score": "SumOfScores", "scaling": "l2"}  # so that modalities weigh alike
    sums = {f"{name}, sum": _described("Decided", base=name, **by_sum) for name in fitted}
    decided = {**temperature, **sums}
    order = [f"{base}, {how}" for base in dict.fromkeys(["Unlike heads", *fitted]) for how in ("sum", "temperature")]
    chosen = _described("Chosen", methods=order, average=1, few_rows=["Logistic regression, sum"])
    return {name: Plain(given) for name, given in {**fitted, **decided, CHOSEN: chosen}.items()}


def train_study(
    store: str,
    plan: Plan,
    rows: int,
    classes: int,
    lda: bool,
    modalities: Sequence[str] | None = None,
    **options: Any,
) -> StudyConfig:
    """Make the study of a plan.

    Args:
        store: Folder of the store.
        plan: The plan.
        rows: Labelled rows.
        classes: Classes with two rows or more.
        lda: Whether LDA is among the methods.
        modalities: Modalities to use; all if not given.
        options: Further options of the study, such as ``seed``.
    """
    epochs = plan.epochs(rows)
    folds = {"folds": plan.folds, "held_out": LEFT_OUT if classes > FEWEST_CLASSES else 0}
    return StudyConfig(
        store,
        name="train",
        modalities=None if modalities is None else list(modalities),
        split={"class_path": "FoldSplit", "init_args": folds},
        trials=plan.folds,
        held_out=LEFT_OUT,
        repeats=plan.repeats,
        epochs=epochs,
        model={"scaling": "standardize"},
        curve_every=max(1, epochs // 8),
        methods=train_methods(plan, lda),
        selection=SelectionConfig(epochs=max(12, epochs // 4)),
        keep="none",  # what is kept is fitted to all rows
        **options,
    )


def _head(solver: str) -> Description:
    return _described("HeadMethod", solver={"class_path": solver}, scaling="centered_l2")


def _described(kind: str, **init_args: Any) -> Description:
    return {"class_path": kind, "init_args": init_args}

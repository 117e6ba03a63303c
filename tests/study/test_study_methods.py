"""Descriptions of methods become objects, or an error that names what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.cli import LRSchedulerCallable
from small import SMALL_MODEL, SOFTEN, STITCH, digits_config, method, scaled
from torch import Tensor

from estitchup_pl import EmbeddingClassifier
from estitchup_pl.errors import ConfigError
from estitchup_pl.study import (
    DerivedMethod,
    Learnt,
    Member,
    MemberRows,
    NetworkMethod,
    SelectionConfig,
    StudyConfig,
    StudyFolder,
)
from estitchup_pl.study.config import PAPER_METHODS, paper_methods
from estitchup_pl.study.study import Study

LOGISTIC = {"class_path": "sklearn.linear_model.LogisticRegression", "init_args": {"C": 2.0}}


def study(path: Path, **options: Any) -> Study:
    made = Study(digits_config(**options), StudyFolder(path))
    made.check()
    return made


def test_values_of_the_grid_replace_arguments_of_the_same_name_wherever_they_stand(tmp_path: Path):
    described = {
        "callbacks": [STITCH, SOFTEN],
        "model": {"optimizer": {"class_path": "SGD", "init_args": {"lr": 0.1}}},
        "grid": {"alpha": [0.7], "softness": [0.3], "hidden": [[8, 4]], "optimizer.lr": [0.5], "batch_size": [16]},
    }
    made = study(tmp_path, methods={"A": described})
    (values,) = made.candidates("A")
    own = made.method("A", values)
    assert isinstance(own, NetworkMethod)
    first, second = (make() for make in own.callbacks)
    assert (first.alpha, second.softness, own.batch_size) == (0.7, 0.3, 16)
    model = own.make_model()
    shapes = [tuple(weight.shape) for weight in model.build_network(5, 3).parameters() if weight.ndim == 2]
    assert shapes == [(8, 5), (4, 8), (3, 4)]
    assert model.build_optimizer([torch.nn.Parameter(torch.zeros(1))]).param_groups[0]["lr"] == 0.5
    assert own.callbacks[0]() is not first


def test_a_longer_name_says_whose_argument_is_meant(tmp_path: Path):
    described = {
        "callbacks": [STITCH],
        "model": SMALL_MODEL,
        "grid": {"network.dropout": [0.9], "callbacks.alpha": [0.1]},
    }
    made = study(tmp_path, methods={"A": described})
    own = made.method("A", made.candidates("A")[0])
    assert own.callbacks[0]().alpha == 0.1
    assert [layer.p for layer in own.make_model().build_network(5, 3) if hasattr(layer, "p")] == [0.9]


def test_an_estimator_takes_them_as_well(tmp_path: Path):
    grid = {"C": [0.5], "copies": [2]}
    made = study(tmp_path, methods={"A": method("EstimatorMethod", estimator=LOGISTIC, grid=grid)})
    own = made.method("A", made.candidates("A")[0])
    assert (own.estimator().C, own.copies) == (0.5, 2)


class Constant(EmbeddingClassifier):
    """A classifier of one's own, with a constant learning rate."""

    def __init__(self, lr_scheduler: LRSchedulerCallable | None = None, **parts: Any) -> None:
        super().__init__(lr_scheduler=lr_scheduler, **parts)


def test_parts_of_the_model_that_a_method_does_not_name_are_those_of_the_study():
    config = digits_config(
        model={**SMALL_MODEL, "scaling": "standardize"},
        methods={
            "A": {},
            "B": {"model": {"scaling": "l2"}},
            "C": {"model": {"class_path": f"{__name__}.Constant"}},
        },
    )
    found = [described["init_args"]["model"]["init_args"] for described in config.methods.values()]
    assert [part["scaling"] for part in found] == ["standardize", "l2", "standardize"]
    assert [part["network"]["init_args"]["hidden"] for part in found] == [[16], [16], [16]]
    assert [part["lr_scheduler"] is None for part in found] == [False, False, True]


def test_the_papers_methods_are_there_with_the_papers_parts(tmp_path: Path):
    made = study(tmp_path, methods=paper_methods())
    assert tuple(made.config.methods) == PAPER_METHODS
    assert [len(made.candidates(name)) for name in PAPER_METHODS] == [1, 3, 4, 4, 12, 12]
    own = made.method("Soft E-Stitchup", {"alpha": 0.2, "softness": 0.05})
    assert [type(make()).__name__ for make in own.callbacks] == ["EStitchup", "LabelSoftening"]


def test_a_method_of_the_file_is_what_the_file_says():
    """A method that is called as a default one has nothing of it."""
    config = StudyConfig("digits", methods={"Soft E-Stitchup": {"callbacks": [{"class_path": "EMixup"}]}})
    (described,) = config.methods.values()
    assert described["init_args"]["grid"] == {}
    assert [callback["class_path"] for callback in described["init_args"]["callbacks"]] == [
        "estitchup_pl.callbacks.EMixup"
    ]


def test_a_configuration_comes_back_from_plain_values():
    config = digits_config(methods={**paper_methods(), "T": scaled("Control")})
    assert StudyConfig.from_plain(config.plain()).plain() == config.plain()


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"callbacks": [{"class_path": "EStichup"}]}, r"^methods\.A: .*EStichup; did you mean 'EStitchup'"),
        ({"callbacks": [{"class_path": "no_such.Thing"}]}, r"^methods\.A: .*No module named 'no_such'"),
        ({"callbacks": [{"class_path": "torch.nn.ReLU"}]}, r"^methods\.A: .*to be a subclass of <class 'Callback'>"),
        (
            {"callbacks": [{"class_path": "EMixup", "init_args": {"alfa": 1}}]},
            "'alfa' is not accepted; did you mean 'alpha'",
        ),
        ({"callbacks": [{"class_path": "EMixup", "init_args": {"alpha": -1}}]}, "^methods.A: alpha must be positive"),
        ({"callback": []}, r"^methods\.A: .*'callback' is not accepted; did you mean 'callbacks'"),
        ({"class_path": "Ensembel"}, r"^methods\.A: .*did you mean 'Ensemble'"),
        (method("Decided", base="Control"), "Decided changes nothing"),
        (method("Decided", base="Control", score="SumOfScore"), "did you mean 'SumOfScores'"),
        (method("Chosen", methods=[]), "expected at least one each"),
        (method("Chosen", methods=["Control"], target="auprr"), r"^methods\.A: target: .*did you mean 'aupr'"),
        ({"model": {"networks": 3}}, r"^methods\.A\.model: .*'networks' is not accepted; did you mean 'network'"),
        ({"callbacks": [STITCH], "grid": {"alfa": [1.0]}}, r"methods\.A\.grid.*'alfa'; did you mean 'alpha'"),
        ({"callbacks": [STITCH], "grid": {"loss.alpha": [1.0]}}, "nothing in this method takes 'loss.alpha'"),
        ({"callbacks": [STITCH], "grid": {"alpha": [-1.0]}}, "^methods.A, alpha -1.0: alpha must be positive"),
        ({"callbacks": [STITCH], "grid": {"alpha": []}}, r"^methods\.A\.grid\.alpha: expected at least one value"),
        (
            {"callbacks": [STITCH], "grid": {"alpha": 0.4}},
            r"^methods\.A\.grid\.alpha: expected a list of values, got 0.4",
        ),
        ({"callbacks": [SOFTEN, STITCH]}, "LabelSoftening comes before EStitchup"),
        (scaled("B"), "is derived from 'B', and there is no such method"),
        (scaled("A"), "is derived from 'A', which is derived from it"),
        (method("Ensemble", base="Control", size=1), "size must be at least 2"),
        (method("EstimatorMethod", estimator=LOGISTIC, callbacks=[SOFTEN]), "takes one augmentation such as EStitchup"),
        (method("EstimatorMethod", estimator=LOGISTIC, copies=0), "copies must be at least 1"),
    ],
)
def test_a_mistake_is_told_by_name_before_the_first_fit(described: dict[str, Any], message: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=message):
        study(tmp_path, methods={"Control": {}, "A": described})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": {"E-Mixup": {}, "E Mixup": {}}}, "would share a folder"),
        ({"methods": {}}, "expected at least one"),
        ({"control": "Contrl"}, "control: there is no method 'Contrl'; did you mean 'Control'"),
        ({"trials": 0}, "trials must be at least 1"),
        ({"split": {"class_path": "ColumSplit"}}, "^split: .*did you mean 'ColumnSplit'"),
        ({"split": {"train_fraction": 2.0}}, "^split: train_fraction must lie between"),
        ({"model": {"scaling": "l3"}}, "^model: .*scaling"),
        ({"more_metrics": {"x": "torch.nn.ReLU"}}, r"^more_metrics\.x: .*subclass of"),
        (
            {
                "methods": {
                    "A": {},
                    "B": scaled("A"),
                    "C": method("Ensemble", base="B"),
                }
            },
            "is derived from 'B', which has no fits of its own",
        ),
        (
            {"methods": {"A": scaled("B"), "B": scaled("A")}},
            "which is derived from it",
        ),
    ],
)
def test_contradictions_are_told(options: dict[str, Any], message: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=message):
        study(tmp_path, **options)


def test_impossible_selections_are_told(tmp_path: Path):
    with pytest.raises(ConfigError, match="fraction must lie between"):
        SelectionConfig(fraction=1.0)
    for metric, message in (("auprr", "did you mean 'aupr'"), ("accuracy", "no metric 'accuracy' that needs no thr")):
        with pytest.raises(ConfigError, match=message):
            study(tmp_path, selection=SelectionConfig(metric=metric))


@dataclass
class Average(DerivedMethod):
    """Averages the logits of two methods."""

    first: str
    second: str

    @property
    def members(self) -> Sequence[Member]:
        return [Member(self.first), Member(self.second)]

    def combine(self, rows: MemberRows, learnt: Learnt) -> Tensor:
        return (rows.logits[0] + rows.logits[1]) / 2


def test_a_derived_method_of_ones_own_takes_several_bases(tmp_path: Path):
    from estitchup_pl.study import run_study

    own = {"class_path": f"{__name__}.Average", "init_args": {"first": "Control", "second": "LR"}}
    lr = method("EstimatorMethod", estimator=LOGISTIC)
    config = digits_config(methods={"Own": own, "Control": {}, "LR": lr}, trials=1, epochs=2)
    folder = run_study(config, StudyFolder(tmp_path))
    one, other, mean = (folder.read_logits(name, 0, "logits").astype(float) for name in ("Control", "LR", "Own"))
    assert abs(mean - (one + other) / 2).max() < 0.02

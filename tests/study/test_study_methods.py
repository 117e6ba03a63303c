"""Descriptions of methods become callbacks, or an error that names what is wrong."""

from __future__ import annotations

import pytest
from small import SOFTEN, STITCH, digits_config

from estitchup_pl.callbacks import EStitchup, LabelSoftening
from estitchup_pl.errors import ConfigError
from estitchup_pl.study import MethodConfig, SelectionConfig
from estitchup_pl.study.config import PAPER_METHODS, paper_methods
from estitchup_pl.study.methods import build_callbacks, build_estimator, candidates, check_methods


def test_values_of_the_grid_replace_arguments_of_the_same_name():
    method = MethodConfig([STITCH, SOFTEN])
    first, second = build_callbacks("A", method, {"alpha": 0.7, "softness": 0.3})
    assert isinstance(first, EStitchup)
    assert isinstance(second, LabelSoftening)
    assert (first.alpha, second.softness) == (0.7, 0.3)
    again = build_callbacks("A", method, {"alpha": 0.7})
    assert again[0] is not first
    assert again[1].softness == 0.1


def test_an_estimator_takes_them_as_well():
    method = MethodConfig(estimator={"class_path": "sklearn.svm.LinearSVC", "init_args": {"C": 1.0}})
    assert build_estimator("A", method, {"C": 0.5}).C == 0.5


def test_the_papers_methods_are_there_with_the_paper_s_parts():
    methods = paper_methods()
    assert tuple(methods) == PAPER_METHODS
    assert len(candidates(methods["Soft E-Mixup"])) == 12
    built = build_callbacks("S", methods["Soft E-Stitchup"], {"alpha": 0.2, "softness": 0.05})
    assert [type(callback).__name__ for callback in built] == ["EStitchup", "LabelSoftening"]
    check_methods(digits_config(methods=methods))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (MethodConfig([{"class_path": "EStichup"}]), r"methods\.A\.callbacks\[0\].*did you mean 'EStitchup'"),
        (MethodConfig([{"class_path": "no_such.Thing"}]), "cannot import 'no_such'"),
        (MethodConfig([{"class": "EStitchup"}]), "expected class_path and init_args"),
        (MethodConfig([{"class_path": "torch.nn.ReLU"}]), "is no Lightning callback"),
        (MethodConfig([{"class_path": "EMixup", "init_args": {"alfa": 1}}]), "takes no 'alfa'; did you mean 'alpha'"),
        (MethodConfig([{"class_path": "EMixup", "init_args": {"alpha": -1}}]), "alpha must be positive"),
        (MethodConfig([STITCH], {"alfa": [1.0]}), r"methods\.A\.grid.*'alfa'; did you mean 'alpha'"),
        (MethodConfig([STITCH], {"alpha": [-1.0]}), "alpha must be positive"),
        (MethodConfig([SOFTEN, STITCH]), "LabelSoftening comes before EStitchup"),
    ],
)
def test_a_mistake_is_told_by_name(method: MethodConfig, message: str):
    with pytest.raises(ConfigError, match=message):
        check_methods(digits_config(methods={"A": method}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": {"A": MethodConfig(base="B", temperature=True)}}, "there is no method 'B'"),
        ({"methods": {"A": MethodConfig(), "B": MethodConfig(base="A")}}, "would be the same as its base 'A'"),
        ({"methods": {"A": MethodConfig(), "B": MethodConfig([STITCH], base="A")}}, "takes everything over"),
        ({"methods": {"E-Mixup": MethodConfig(), "E Mixup": MethodConfig()}}, "would share a folder"),
        ({"methods": {"A": MethodConfig([STITCH], {"alpha": []})}}, "expected at least one value"),
        ({"methods": {"A": MethodConfig(ensemble=0)}}, "must be at least 1"),
        ({"methods": {}}, "expected at least one"),
        ({"trials": 0}, "trials must be at least 1"),
        ({"selection": SelectionConfig(fraction=1.0)}, "fraction must lie between"),
        (
            {
                "methods": {
                    "A": MethodConfig(),
                    "B": MethodConfig(base="A", ensemble=2),
                    "C": MethodConfig(base="B", temperature=True),
                }
            },
            "has a base itself",
        ),
    ],
)
def test_contradictions_are_told(options: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        digits_config(**options)

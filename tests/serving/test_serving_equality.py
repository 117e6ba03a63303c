"""One model, decided by the server, by scikit-learn's estimator and by the graph that is exported: the same to 1e-5.

That onnxruntime computes what the graph says is in test_serving_export.py, and that HTTP changes nothing in
test_serving_http.py.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from made_models import (
    CLASSES,
    EVERY_CALIBRATOR,
    EVERY_SCORE,
    MODALITIES,
    ensemble,
    fitted,
    linear,
    of_heads,
    rows,
    score_named,
)

from estitchup_pl import EmbeddingClassifier, EmbeddingMLP
from estitchup_pl.model import LinearHead, calibrators
from estitchup_pl.serving import Deployed
from estitchup_pl.serving.asked import check_asked, read_json
from estitchup_pl.serving.decider import Decider
from estitchup_pl.sklearn import EStitchupClassifier

Make = Callable[[], EmbeddingClassifier]

MODELS: dict[str, Make] = {
    **{name: lambda name=name: fitted(score_named(name)) for name in EVERY_SCORE},  # type: ignore[misc]
    **{name: lambda name=name: fitted(None, getattr(calibrators, name)()) for name in EVERY_CALIBRATOR},  # type: ignore[misc]
    "Disagreement of members": ensemble,
    "linear head": lambda: linear(score_named("Energy"), calibrators.Temperature()),
    "unlike heads": lambda: of_heads([EmbeddingMLP, LinearHead]),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_way_out_decides_the_same(name: str) -> None:
    model, queries = MODELS[name](), rows(60, 8)
    with torch.no_grad():
        graph = Deployed(model)(*queries.split(list(MODALITIES.values()), dim=1))
    names = [(*CLASSES, "none")[code] for code in graph.predicted.tolist()]
    close = np.abs(1 - graph.none_scores.numpy() - model.threshold) < 1e-5  # where rounding may decide
    assert 5 < names.count("none") < 55
    assert len(set(names)) > 2

    served = answered(model, queries)
    assert [one["predicted"] for one, doubt in zip(served, close, strict=True) if not doubt] == at(names, ~close)
    assert_near([one["none_score"] for one in served], graph.none_scores)
    assert_near([one["confidence"] for one in served], graph.probabilities.amax(dim=1))
    for one, probabilities in zip(served, graph.probabilities, strict=True):
        places = [CLASSES.index(kind) for kind in one["top_classes"]]
        assert_near(one["top_probabilities"], probabilities[places])

    estimator = EStitchupClassifier(none_label="none")
    estimator.model_, estimator.classes_, estimator.n_features_in_ = model, np.array(CLASSES), queries.shape[1]
    assert at(estimator.predict(queries.numpy()).tolist(), ~close) == at(names, ~close)
    assert_near(estimator.none_score(queries.numpy()), graph.none_scores)
    shares = graph.probabilities / graph.probabilities.sum(dim=1, keepdim=True)
    assert_near(estimator.predict_proba(queries.numpy()), shares)


def answered(model: EmbeddingClassifier, queries: torch.Tensor) -> list[dict[str, Any]]:
    """What the server makes of a request, from the bytes that came to those that go, through its queue."""
    parts = queries.split(list(MODALITIES.values()), dim=1)
    body = json.dumps({name: part.tolist() for name, part in zip(MODALITIES, parts, strict=True)}).encode()
    asked = pickle.loads(pickle.dumps(check_asked(read_json(body), model.modalities)))
    (answer,) = Decider(model, top_k=len(CLASSES))([asked])
    decisions: list[dict[str, Any]] = json.loads(json.dumps(answer, allow_nan=False))
    return decisions


def at(names: list[str], chosen: np.ndarray) -> list[str]:
    return [name for name, wanted in zip(names, chosen, strict=True) if wanted]


def assert_near(found: Any, expected: torch.Tensor) -> None:
    np.testing.assert_allclose(np.asarray(found, np.float64), expected.double().numpy(), rtol=0, atol=1e-5)

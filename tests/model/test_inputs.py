"""Embeddings reach the network by the names of their modalities, or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from training import classifier

from estitchup_pl import EmbeddingClassifier
from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.model.inputs import in_batches

TITLE, IMAGE = torch.randn(6, 7), torch.randn(6, 5)


def spoilt(values: Any, row: int, value: float) -> Any:
    copy = values.clone() if isinstance(values, torch.Tensor) else values.copy()
    copy[row, 3] = value
    return copy


@pytest.fixture(scope="module")
def model() -> EmbeddingClassifier:
    built = classifier(class_names=["a", "b"], modalities={"title": 7, "image": 5})
    built.configure_model()
    return built.eval()


def test_the_order_of_the_names_does_not_matter(model: EmbeddingClassifier) -> None:
    expected = model(torch.cat([TITLE, IMAGE], dim=-1))
    assert torch.equal(model.logits({"title": TITLE, "image": IMAGE}), expected)
    assert torch.equal(model.logits({"image": IMAGE, "title": TITLE}), expected)
    assert torch.equal(model.predict_proba({"image": IMAGE, "title": TITLE}), expected.sigmoid())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "int8", "uint16"])
def test_arrays_of_any_numbers_are_taken_and_left_alone(model: EmbeddingClassifier, dtype: str) -> None:
    title, image = (np.abs(part.numpy() * 9).astype(dtype) for part in (TITLE, IMAGE))
    title.flags.writeable = False
    kept = title.copy()
    expected = model(torch.from_numpy(np.concatenate([title, image], axis=1).astype("float32")))
    assert torch.equal(model.logits({"title": title, "image": image}), expected)
    assert np.array_equal(title, kept)


def test_a_single_modality_needs_no_name() -> None:
    single = classifier(class_names=["a", "b"], modalities={"title": 7})
    single.configure_model()
    assert torch.equal(single.eval().logits(TITLE), single.logits({"title": TITLE.numpy()}))
    assert single.predict_proba(TITLE[:0]).shape == (0, 2)


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (torch.zeros(6, 12), r"2 modalities.*by name, \{'title': \(rows, 7\), 'image': \(rows, 5\)\}; got .*\(6, 12\)"),
        ({"title": TITLE}, "no embeddings of the modality 'image'"),
        ({"title": TITLE, "image": IMAGE, "imag": IMAGE}, "no modality 'imag'.*did you mean 'image'"),
        ({"title": IMAGE, "image": TITLE}, r"modality 'title': expected \(rows, 7\), got \(6, 5\)"),
        ({"title": TITLE[0], "image": IMAGE}, r"modality 'title': expected \(rows, 7\), got \(7,\)"),
        ({"title": TITLE, "image": IMAGE[:4]}, "'title' has 6, 'image' has 4"),
        ({"title": np.array([["a"] * 7] * 6), "image": IMAGE}, "modality 'title': expected numbers, got <U1"),
        ({"title": TITLE, "image": IMAGE > 0}, "modality 'image': expected numbers, got torch.bool"),
        ({"title": TITLE, "image": spoilt(IMAGE, 4, np.nan)}, "modality 'image', row 4: a number is not finite"),
        ({"title": spoilt(TITLE.double().numpy(), 2, 1e300), "image": IMAGE}, "modality 'title', row 2: .*float32"),
    ],
)
def test_what_does_not_fit_is_refused(model: EmbeddingClassifier, embeddings: object, message: str) -> None:
    for method in (model.logits, model.predict_proba, model.predict):
        with pytest.raises(DataError, match=message):
            method(embeddings)


def test_batches_are_the_rows_in_their_order_and_say_which_row_of_all_is_wrong() -> None:
    widths, raw = {"title": 7, "image": 5}, {"image": IMAGE.numpy(), "title": TITLE}
    parts = list(in_batches(raw, widths, 4))
    assert [len(part) for part in parts] == [4, 2]
    assert torch.equal(torch.cat(parts), torch.cat([TITLE, IMAGE], dim=1))
    with pytest.raises(DataError, match="modality 'image', row 5"):
        list(in_batches({"title": TITLE, "image": spoilt(IMAGE, 5, np.inf)}, widths, 4))
    with pytest.raises(ConfigError, match="batch_size: expected at least 1, got 0"):
        list(in_batches(raw, widths, 0))


def test_prediction_in_batches_is_that_of_all_rows_at_once(model: EmbeddingClassifier) -> None:
    raw = {"title": TITLE, "image": IMAGE}
    whole, parts = model.predict(raw), model.predict(raw, batch_size=4)
    torch.testing.assert_close(parts.probabilities, whole.probabilities)
    assert parts.predicted == whole.predicted
    assert len(parts.none_scores) == 6
    nothing = model.predict({"title": TITLE[:0], "image": IMAGE[:0]})
    assert nothing.predicted == []
    assert nothing.probabilities.shape == (0, 2)

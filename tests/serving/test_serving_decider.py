"""Requests before and after HTTP: what they may hold, and that what is wrong with one concerns no other."""

from __future__ import annotations

import base64
import json
import logging
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from made_models import CLASSES, fitted
from raw_catalogue import picture
from torch import Tensor

from estitchup_pl import EmbeddingClassifier
from estitchup_pl.embed import Embedder, ImageEmbedder, Modality, Prepared, embed_items
from estitchup_pl.errors import ConfigError
from estitchup_pl.model.saving import save_classifier
from estitchup_pl.serving.asked import Asked, Limits, RequestError, check_asked, read_json, read_parts
from estitchup_pl.serving.decider import Decider
from estitchup_pl.serving.encoding import encode_values
from estitchup_pl.serving.server import DecisionAPI
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.tables import TableFile

WIDTHS = {"title": 3, "note": 3}


class Letters(Embedder):
    """Counts of a, b and c; "nothing" holds nothing, "broken" cannot be read, "nan" embeds to no number."""

    @property
    def dim(self) -> int:
        return 3

    def prepare(self, value: Any) -> Any:
        if value == "broken":
            raise ValueError("cannot be read <Letters object at 0x7f>")
        return None if value == "nothing" else value

    def embed(self, batch: list[str]) -> Tensor:
        return torch.stack([torch.tensor([float("nan")] * 3) if text == "nan" else counts(text) for text in batch])


class Streamed(Letters):
    """The same by length, a batch at a time."""

    bucketing = True

    def prepare_many(self, values: Any) -> Any:
        return [Prepared(value, length=len(value)) for value in values]


class Thirds(Letters):
    """A number that no binary type holds, and one that is too large for half precision."""

    def embed(self, batch: list[str]) -> Tensor:
        return torch.tensor([[1 / 3, 1e6, 0.0]]).repeat(len(batch), 1)


def counts(text: str | None) -> Tensor:
    return torch.tensor([float((text or "").count(letter)) for letter in "abc"])


def expected(texts: list[str | None]) -> Any:
    return torch.stack([counts(text) for text in texts]).numpy()


def of(embedder: Embedder) -> Modality:
    return Modality("column", embedder, batch_size=2, dtype="float32")


@pytest.fixture(scope="module")
def decider() -> Decider:
    model = EmbeddingClassifier(class_names=CLASSES, modalities=WIDTHS, scaling="l2")
    model.configure_model()
    model.threshold = 0.5
    return Decider(model.eval(), {"title": of(Letters()), "note": of(Streamed())})


def asked(**columns: Any) -> Asked:
    return check_asked(columns, WIDTHS, WIDTHS)


def assert_alike(answer: Any, other: Any) -> None:
    """The same decisions, to the rounding of sums over batches of other sizes."""
    numbers = ("confidence", "none_score", "top_probabilities")
    for one, two in zip(answer, other, strict=True):
        assert one.keys() == two.keys() >= {*numbers}
        for name, value in one.items():
            assert value == (pytest.approx(two[name], abs=1e-6) if name in numbers else two[name])


def test_raw_values_are_decided_as_their_embeddings(decider: Decider) -> None:
    titles, notes = ["abba", None, "nothing", "a" * 30], ["dad", "bed", None, "face"]
    first, second = asked(title=titles[:3], note=notes[:3]), asked(title=titles[3:], note=notes[3:])
    answers = decider([first, second])
    whole = decider.model.predict({"title": expected([*titles[:2], None, titles[3]]), "note": expected(notes)})
    decisions = [one for answer in answers for one in answer]  # type: ignore[union-attr]
    assert [len(answer) for answer in answers] == [3, 1]  # type: ignore[arg-type]
    assert [one["predicted"] for one in decisions] == whole.predicted
    torch.testing.assert_close(
        torch.tensor([one["top_probabilities"] for one in decisions]), whole.probabilities.sort(descending=True).values
    )


def test_embeddings_of_one_modality_go_with_raw_values_of_another(decider: Decider) -> None:
    mixed, raw = decider([asked(title=["abba"], note=expected(["dad"]).tolist()), asked(title=["abba"], note=["dad"])])
    assert_alike(mixed, raw)


def test_a_broken_value_refuses_its_own_request_alone(decider: Decider) -> None:
    good, broken, nan = (asked(title=["abba", title], note=[None, "dad"]) for title in ("cab", "broken", "nan"))
    alone = decider([good])[0]
    answers = decider([good, broken, nan, good])
    assert_alike(answers[0], alone)
    assert_alike(answers[3], alone)
    for answer, reason in ((answers[1], "cannot be read"), (answers[2], "the encoder's output is not finite")):
        assert isinstance(answer, RequestError)
        assert answer.status == 422
        assert str(answer) == f"modality 'title', item 2: {reason}"


def test_numbers_too_large_for_the_network_refuse_their_own_request_alone() -> None:
    decider = Decider(EmbeddingClassifier(class_names=["a", "b"], modalities={"x": 2}))
    decider.model.configure_model()
    with torch.no_grad():
        next(decider.model.network.parameters()).fill_(10.0)  # type: ignore[union-attr]
    fine, huge = (Asked(1, {"x": np.full((1, 2), value, np.float32)}, {}) for value in (1.0, 3e38))
    answers = decider([fine, huge, fine])
    assert isinstance(answers[1], RequestError)
    assert answers[0] == answers[2] == decider([fine])[0]
    assert not isinstance(answers[0], RequestError)


def test_broken_pictures_say_what_is_wrong_and_nothing_of_this_machine() -> None:
    embedder = ImageEmbedder("test_efficientnet", pretrained=False, max_pixels=5000)
    embedder.load()
    values = [picture(), b"\xff\xd8 no picture", picture(size=(100, 51)), "shoe.jpg", picture()[:200]]
    rows, broken = encode_values(Modality("photo", embedder), values)
    assert sorted(broken) == [1, 2, 3, 4]
    assert broken[1] == "cannot identify image file"
    assert "100 x 51 pixels, more than 5,000" in broken[2]
    assert broken[3] == "it is a text, and a file is expected"
    assert rows[0].any()
    assert not rows[1:].any()


def test_files_come_as_base64_or_as_parts() -> None:
    content = bytes(range(256))
    text = base64.b64encode(content).decode()
    parts = read_parts([("x", content), ("x", ""), ("x", "words"), ("x", b"")])
    for column in ([{"base64": text}, "", "words", None], parts["x"]):
        values = check_asked({"x": column}, {"x": 2}, ["x"]).values["x"]
        assert values == [content, None, "words", None]


@pytest.mark.parametrize(
    ("cell", "status", "reason"),
    [
        ({"base64": "!!"}, 422, "x, item 2: no base64"),
        ({"base64": 3}, 422, "got dict"),
        ({"path": "/etc/passwd"}, 422, 'expected a text, {"base64": "…"} of a file, or null, got dict'),
        (3.5, 422, "got float"),
        ("a" * 11, 413, "a text of 11 characters, more than 10"),
    ],
)
def test_raw_values_of_other_kinds_are_refused(cell: Any, status: int, reason: str) -> None:
    with pytest.raises(RequestError) as refused:
        check_asked({"x": ["fine", cell]}, {"x": 2}, ["x"], Limits(max_characters=10))
    assert refused.value.status == status
    assert reason in str(refused.value)


def test_broken_json_is_refused() -> None:
    for body in (b"\xff\xfe", b'{"x": 1' + b"0" * 5000 + b"}"):
        with pytest.raises(RequestError, match="no JSON"):
            read_json(body)


@pytest.mark.parametrize("option", ["max_items", "max_bytes", "max_characters"])
def test_limits_are_at_least_one(option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option}: expected at least 1, got 0"):
        Limits(**{option: 0})


def test_a_decision_names_at_least_one_class() -> None:
    with pytest.raises(ConfigError, match="top_k: expected at least 1, got 0"):
        Decider(fitted(), top_k=0)


def test_embeddings_are_rounded_as_those_of_the_training_were() -> None:
    half = Modality("column", Thirds(), dtype="float16")
    assert encode_values(half, ["x"]).rows.tolist() == [[float(np.float16(1 / 3)), np.inf, 0.0]]
    assert encode_values(half, ["x"]).broken == {0: "the encoder's output is not finite"}


def test_a_worker_embeds_as_the_checkpoint_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = pa.table({"id": ["1", "2"], "name": ["abba", "cab"]})
    pq.write_table(items, tmp_path / "items.parquet")
    text = {"title": Modality("name", Letters(), dtype="float16")}
    embed_items(tmp_path / "store", TableFile(tmp_path / "items.parquet"), text, accelerator="cpu", devices=1)
    store = EmbeddingStore.open(tmp_path / "store")
    recipe = store.modalities["title"].recipe
    model = EmbeddingClassifier(class_names=CLASSES, modalities={"title": 3})
    model.configure_model()
    save_classifier(model, tmp_path / "model.ckpt")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    api = DecisionAPI(tmp_path / "model.ckpt", {"title": recipe or {}}, top_k=4)
    api.setup("cpu")
    (answer,) = api.predict([check_asked({"title": ["abba", "cab"]}, model.modalities, ["title"])])
    expected = model.predict({"title": store.gather([0, 1], ["title"])})
    assert [one["confidence"] for one in answer] == expected.confidence.tolist()  # type: ignore[union-attr,index]
    reply = api.encode_response(answer)
    assert (reply.status_code, json.loads(reply.body)) == (200, {"decisions": answer})
    assert api.encode_response(RequestError(422, "why")).body == b'{"detail":"why"}'


def test_a_worker_says_in_a_sentence_what_it_cannot_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    save_classifier(fitted(), tmp_path / "model.ckpt")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(logging, "disable", lambda *_: None)
    with pytest.raises(ConfigError):
        DecisionAPI(tmp_path / "model.ckpt", {"title": {"embedder": {"class": "strange.Encoder"}}}).setup("cpu")
    assert "error: modality 'title' was embedded by strange.Encoder" in capfd.readouterr().err

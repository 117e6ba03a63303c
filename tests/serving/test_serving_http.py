"""A server in a process of its own: what it answers over HTTP, whom it refuses, and how it ends."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
from http_client import JSON, Reply, free_port, npy, post, post_parts, send
from made_models import CLASSES, MODALITIES, fitted, rows, score_named
from raw_catalogue import picture, save_model

from estitchup_pl import EmbeddingClassifier, EmbeddingDataModule
from estitchup_pl.cli import main
from estitchup_pl.data import StratifiedSplit
from estitchup_pl.embed import ImageEmbedder, Modality, TextEmbedder, embed_items
from estitchup_pl.model import calibrators
from estitchup_pl.model.saving import save_classifier
from estitchup_pl.tables import TableFile

START_SECONDS = 240  # two processes import torch, on a machine that may be busy
MAX_BYTES = 200_000


class Server(NamedTuple):
    """A running server, and the model that it serves."""

    port: int
    model: EmbeddingClassifier


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    model = fitted(score_named("SumOfScores"), calibrators.Temperature())
    save_classifier(model, folder / "model.ckpt")
    with running(folder, "--max_items", "50", "--max_bytes", f"{MAX_BYTES}", "--top_k", "2") as port:
        yield Server(port, model)


@contextmanager
def running(folder: Path, *options: str) -> Iterator[int]:
    """Start `estitchup serve` on a folder's model; end it as a terminal would, and look at what it leaves."""
    port = free_port()
    call = ("serve", "--ckpt_path", f"{folder}/model.ckpt", "--port", f"{port}", "--accelerator", "cpu", *options)
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "estitchup_pl", *call],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
    try:
        wait_until_ready(process, port)
        yield port
        family = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does, to all of its processes
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    said = (folder / "output").read_text()
    assert "Traceback" not in said
    assert said.endswith("ended\n")
    assert len(family) >= 3
    assert not psutil.wait_procs(family, timeout=20)[1]
    assert not list(folder.glob("estitchup-*"))


def wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            if send(port, "GET", "/health") == Reply(200, "ok"):
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise AssertionError("the server did not start")


def columns(count: int, seed: int) -> dict[str, Any]:
    parts = rows(count, seed).split(list(MODALITIES.values()), dim=1)
    return {name: part.numpy() for name, part in zip(MODALITIES, parts, strict=True)}


def check_decisions(server: Server, reply: Reply, asked: dict[str, Any]) -> None:
    """What came back is what the model says here."""
    assert reply.status == 200
    expected, decisions = server.model.predict(asked), reply.content["decisions"]
    assert [one["predicted"] for one in decisions] == expected.predicted
    assert [one["confidence"] for one in decisions] == pytest.approx(expected.confidence.tolist(), abs=1e-5)
    assert [one["none_score"] for one in decisions] == pytest.approx(expected.none_scores.tolist(), abs=1e-5)
    assert {one["threshold"] for one in decisions} == {server.model.threshold}
    best = expected.probabilities.topk(2, dim=1).values
    for one, probabilities, values in zip(decisions, expected.probabilities, best.tolist(), strict=True):
        assert one["top_probabilities"] == pytest.approx(values, abs=1e-5)
        named = [float(probabilities[CLASSES.index(name)]) for name in one["top_classes"]]
        assert named == pytest.approx(values, abs=1e-5)


def test_embeddings_come_back_as_decisions(server: Server) -> None:
    asked = columns(40, 5)
    reply = post(server.port, {name: part.tolist() for name, part in asked.items()})
    check_decisions(server, reply, asked)
    assert len({one["predicted"] for one in reply.content["decisions"]} - {"none"}) > 1
    assert "none" in {one["predicted"] for one in reply.content["decisions"]}
    swapped = dict(reversed(asked.items()))
    check_decisions(server, post_parts(server.port, [(name, npy(part)) for name, part in swapped.items()]), asked)


def test_an_item_may_lack_a_modality(server: Server) -> None:
    asked = columns(2, 6)
    asked["photo"][1] = 0
    reply = post(server.port, {"title": asked["title"].tolist(), "photo": [asked["photo"][0].tolist(), None]})
    check_decisions(server, reply, asked)


def test_texts_and_pictures_are_decided_as_their_embeddings_are(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_efficientnet").state_dict(), tmp_path / "weights.pth")
    names, pictures = ["bag", "cap", "bib", "cad"] * 3, [picture(number) for number in range(12)]
    table = pa.table({"id": range(12), "label": ["b", "c"] * 6, "name": names, "file": pictures})
    pq.write_table(table, tmp_path / "items.parquet")
    modalities = {
        "name": Modality("name", TextEmbedder(save_model(tmp_path / "bert"))),
        "file": Modality("file", ImageEmbedder("test_efficientnet", checkpoint=tmp_path / "weights.pth")),
    }
    items = TableFile(tmp_path / "items.parquet")
    embed_items(tmp_path / "store", items, modalities, label="label", accelerator="cpu", devices=1)
    data = EmbeddingDataModule(tmp_path / "store", StratifiedSplit(train_fraction=1))
    trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
    model = EmbeddingClassifier(scaling="l2")
    trainer.fit(model, data)
    model.threshold = 0.5
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    (tmp_path / "bert").rename(tmp_path / "moved")
    (tmp_path / "weights.pth").rename(tmp_path / "moved.pth")

    expected = model.eval().predict({name: data.store.gather(range(12), [name]) for name in modalities})
    places = ("--text_encoder", f"{tmp_path}/moved", "--image_checkpoint", f"{tmp_path}/moved.pth")
    with running(tmp_path, *places) as port:
        form = [("name", name) for name in names] + [("file", content) for content in pictures]
        encoded = [{"base64": base64.b64encode(content).decode()} for content in pictures]
        for reply in (post_parts(port, form), post(port, {"name": names, "file": encoded})):
            assert reply.status == 200
            decisions = reply.content["decisions"]
            assert [one["predicted"] for one in decisions] == expected.predicted
            assert [one["confidence"] for one in decisions] == pytest.approx(expected.confidence.tolist(), abs=1e-5)
        broken = post(port, {"name": ["bag"], "file": [{"base64": encoded[0]["base64"][:40]}]})
        assert broken.status == 422
        assert "modality 'file', item 1" in broken.content["detail"]


def test_requests_at_the_same_time_get_their_own_answers(server: Server) -> None:
    asked = [columns(1 + number % 7, 10 + number) for number in range(60)]
    bodies = [{name: part.tolist() for name, part in one.items()} for one in asked]
    for number in range(0, 60, 3):
        bodies[number]["photo"][0] = [1.0, 2.0]
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda body: post(server.port, body), bodies))
    for number, reply in enumerate(replies):
        if number % 3:
            check_decisions(server, reply, asked[number])
        else:
            assert reply.status == 422


GOOD: dict[str, Any] = {"title": [[1.0, 2.0, 3.0]], "photo": [[1.0, 2.0, 3.0, 4.0]]}


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("{", 400, "no JSON"),
        ("[" * 100_000, 400, "no JSON"),
        ('"text"', 422, "a JSON object with a list for each modality"),
        ({"title": 3}, 422, "a JSON object with a list for each modality"),
        ({**GOOD, "phot": [[1.0]]}, 422, "no modality 'phot', only title, photo; did you mean 'photo'?"),
        ({"title": GOOD["title"]}, 422, "'photo' is missing"),
        ({**GOOD, "title": [[1.0, 2.0]]}, 422, "'title': expected (rows, 3), got (1, 2)"),
        ({**GOOD, "title": [1.0, 2.0, 3.0]}, 422, "expected as many items of each modality"),
        ({**GOOD, "title": [[1.0, 2.0, float("nan")]]}, 422, "'title', row 0: a number is not finite"),
        ({**GOOD, "title": [[1.0, 2.0, 1e300]]}, 422, "'title', row 0: a number is not finite"),
        ({**GOOD, "title": [[1.0, 2.0, 10**400]]}, 422, "'title': expected numbers"),
        ({**GOOD, "title": [[1.0, "2", 3.0]]}, 422, "'title': expected numbers"),
        ({**GOOD, "title": [[[1.0], [2.0], [3.0]]]}, 422, "'title': expected (rows, 3), got (1, 3, 1)"),
        ({"title": [[1, 2, 3], [1, 2]], "photo": [None, None]}, 422, "'title': rows of different lengths"),
        ({**GOOD, "title": ["blue shoe"]}, 422, "'title': raw values, and this server has no encoder"),
        ({"title": [], "photo": []}, 422, "at least one item"),
        ({"title": [None] * 51, "photo": [None] * 51}, 413, "51 items, more than 50"),
        (" " * (MAX_BYTES + 1), 413, "more than 200,000"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_a_sentence(server: Server, body: Any, status: int, reason: str) -> None:
    reply = send(server.port, "POST", "/predict", body, JSON) if isinstance(body, str) else post(server.port, body)
    assert reply.status == status
    assert list(reply.content) == ["detail"]
    assert reason in reply.content["detail"]
    assert "estitchup_pl" not in reply.content["detail"]
    check_decisions(server, post(server.port, GOOD), GOOD)


@pytest.mark.parametrize(
    ("parts", "status", "reason"),
    [
        ([("title", npy([["a"]]))], 422, "'title': the .npy file cannot be read"),
        ([("title", npy([[1.0]])[:20])], 422, "'title': the .npy file cannot be read"),
        ([("title", npy([[1.0]]).replace(b"(1, 1)", b"(9, 9)"))], 422, "'title': the .npy file cannot be read"),
        ([("title", npy([[1.0, 2.0, 3.0]])), ("title", "x")], 422, "stands alone"),
        ([("title", npy(3.0)), ("photo", npy([[1.0]]))], 422, "as many items"),
        ([("title", "x")] * 200, 400, "the form cannot be read (Too many fields"),
    ],
)
def test_a_form_that_cannot_be_answered_is_refused(
    server: Server, parts: list[tuple[str, bytes | str]], status: int, reason: str
) -> None:
    reply = post_parts(server.port, parts)
    assert reply.status == status
    assert reason in reply.content["detail"]


def test_chunks_without_a_length_are_counted(server: Server) -> None:
    chunks = (b" " * 10_000 for _ in range(30))
    assert send(server.port, "POST", "/predict", chunks, JSON) == Reply(413, {"detail": "Payload too large"})


def test_other_content_and_other_addresses(server: Server) -> None:
    reply = send(server.port, "POST", "/predict", b"title", "text/plain")
    assert reply.status == 415
    assert "got text/plain" in reply.content["detail"]
    assert send(server.port, "POST", "/predict", b"x", "multipart/form-data").status == 400
    assert send(server.port, "GET", "/predict").status == 405
    assert send(server.port, "GET", "/docs").status == 404


def test_it_says_what_it_takes_and_what_it_has_counted(server: Server) -> None:
    facts = send(server.port, "GET", "/info").content["model"]
    assert facts["class_names"] == CLASSES
    assert facts["modalities"] == MODALITIES
    assert facts["threshold"] == server.model.threshold
    before, asked = counts(server), columns(30, 7)
    decisions = post(server.port, {name: part.tolist() for name, part in asked.items()}).content["decisions"]
    post(server.port, {})
    after = counts(server)
    grown = {name: value - before.get(name, 0.0) for name, value in after.items()}
    assert grown['estitchup_requests_total{status="200"}'] == 1
    assert grown['estitchup_requests_total{status="422"}'] == 1
    assert grown["estitchup_request_seconds_count"] == 2
    assert grown["estitchup_batch_items_sum"] == 30
    rejected = sum(one["predicted"] == "none" for one in decisions)
    assert grown['estitchup_decisions_total{predicted="none"}'] == rejected > 0
    assert grown["estitchup_confidence_sum"] == pytest.approx(sum(one["confidence"] for one in decisions))
    below = sum(one["none_score"] <= 0.5 for one in decisions)
    assert grown['estitchup_none_score_bucket{le="0.5"}'] == below > 0


def counts(server: Server) -> dict[str, float]:
    lines = send(server.port, "GET", "/metrics").content.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_a_place_that_cannot_be_listened_at_is_told(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for port, reason in ((server.port, "cannot be used"), (80, "from 1024 to 65535")):
        assert main(["serve", "--ckpt_path", str(tmp_path / "x.ckpt"), "--port", str(port)]) == 2
        assert reason in capfd.readouterr().err
    assert main(["serve", "--ckpt_path", str(tmp_path / "x.ckpt"), "--port", str(free_port())]) == 1
    assert "no such checkpoint" in capfd.readouterr().err

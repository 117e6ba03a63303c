"""Rows per second of `estitchup embed` on texts, beside the loop that users write, in one run.

    python benchmarks/embed_text.py --items items.parquet --column description --model MODEL_OR_FOLDER

The plain loop takes batches in the order of the table, padded to the longest. Both get the same texts (without
markup), model, batch size, truncation and pooling, and one warm-up; the embeddings are compared. The time of
`estitchup embed` is everything but loading the model: staging the table, digests, tokens, writing, publishing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from estitchup_pl.extraction import (
    Modality,
    TableFile,
    TextEmbedder,
    embed_items,
    mean_pool,
    predict,
    run,
    strip_markup,
    writer,
)
from estitchup_pl.store import EmbeddingStore


class Clock:
    """Sums the time spent in functions."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

        return call


class LoadedOnce(TextEmbedder):
    """Keeps its model over several runs."""

    def load(self) -> None:  # noqa: D102
        if not hasattr(self, "model"):
            super().load()


def plain_loop(embedder: TextEmbedder, texts: list[str], batch_size: int) -> np.ndarray:
    tokenizer, model = embedder._tokenizer, embedder.model
    parts = []
    with torch.inference_mode():
        for at in range(0, len(texts), batch_size):
            batch = tokenizer(
                texts[at : at + batch_size],
                padding=True,
                truncation=True,
                max_length=embedder.max_length,
                return_tensors="pt",
            )
            hidden = model(**batch, output_hidden_states=True).hidden_states
            pooled = [mean_pool(hidden[layer], batch["attention_mask"]) for layer in embedder.layers]
            parts.append(torch.cat(pooled, dim=-1).half())
    return torch.cat(parts).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=Path, required=True)
    parser.add_argument("--column", default="description")
    parser.add_argument("--model", default="bert-base-uncased")
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--max-length", type=int, default=512)
    options = parser.parse_args()

    column = pq.read_table(options.items, columns=[options.column])[options.column].to_pylist()
    texts = [text for text in map(strip_markup, column) if text]
    step = len(texts) // options.rows or 1
    texts = texts[::step][: options.rows]  # spread over the table, in its order
    unique = list(dict.fromkeys(texts))
    embedder = LoadedOnce(options.model, max_length=options.max_length)
    embedder.load()
    print(f"{len(texts)} texts, {len(unique)} of them different; {torch.get_num_threads()} threads")
    print(f"{'':<34}{'seconds':>9}{'rows/s':>9}{'ratio':>8}")
    for name, rows in (("all texts", texts), ("different texts only", unique)):
        plain_loop(embedder, rows[: options.batch_size], options.batch_size)
        started = time.perf_counter()
        expected = plain_loop(embedder, rows, options.batch_size)
        plain = time.perf_counter() - started
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            table = pa.table({"id": [str(row) for row in range(len(rows))], "text": rows})
            pq.write_table(table, Path(folder, "items.parquet"))
            started = time.perf_counter()
            embed(Path(folder), embedder, options.batch_size, clock)
            ours = time.perf_counter() - started
            store = EmbeddingStore.open(Path(folder, "store"))
            error = np.abs(store.gather(np.arange(len(rows))).astype("f4") - expected.astype("f4")).max()
        print(f"{name + ': plain loop':<34}{plain:>9.1f}{len(rows) / plain:>9.1f}{1:>8.2f}")
        print(f"{name + ': estitchup embed':<34}{ours:>9.1f}{len(rows) / ours:>9.1f}{plain / ours:>8.2f}")
        shares = ", ".join(f"{part} {100 * seconds / ours:.1f} %" for part, seconds in clock.seconds.items())
        print(f"  of its time: {shares}; largest difference {error:.4f}")


def embed(folder: Path, embedder: TextEmbedder, batch_size: int, clock: Clock) -> None:
    """Run `estitchup embed` with a clock on its parts."""
    with (
        mock.patch.object(predict, "start_run", clock("start", predict.start_run)),
        mock.patch.object(embedder, "embed", clock("encoder", embedder.embed)),
        mock.patch.object(
            writer.ShardWriter,
            "on_predict_batch_end",
            clock("writing", writer.ShardWriter.on_predict_batch_end),
        ),
        mock.patch.object(run, "finish", clock("finish", run.finish)),
    ):
        embed_items(
            folder / "store",
            TableFile(folder / "items.parquet"),
            {"text": Modality("text", embedder, batch_size=batch_size)},
        )


if __name__ == "__main__":
    main()

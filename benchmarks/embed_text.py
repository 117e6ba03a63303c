"""Rows per second of `estitchup embed` on texts, beside the loop that users write, in one run.

    OMP_NUM_THREADS=1 python benchmarks/embed_text.py --items items.parquet --column description --model FOLDER

The plain loop takes fixed batches in the order of the table, padded to the longest. Both get the same texts (markup
removed), model, batch size, truncation and pooling; the embeddings are compared. The time of `estitchup embed` is
everything but loading the model: staging, digests, tokens, writing, putting the store in place.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from embed_clock import shares, timed_run

from estitchup_pl.embed import Modality, TextEmbedder, mean_pool, strip_markup
from estitchup_pl.store import EmbeddingStore


def plain_loop(embedder: TextEmbedder, texts: list[str], batch_size: int) -> np.ndarray:
    tokenizer, model = embedder._tokenizer, embedder.model
    parts = []
    with torch.inference_mode():
        for at in range(0, len(texts), batch_size):
            some = texts[at : at + batch_size]
            options = {"padding": True, "truncation": True, "max_length": embedder.max_length}
            batch = tokenizer(some, return_tensors="pt", **options)
            hidden = model(**batch, output_hidden_states=True).hidden_states
            pooled = [mean_pool(hidden[layer], batch["attention_mask"]) for layer in embedder.layers]
            parts.append(torch.cat(pooled, dim=-1).half())
    return torch.cat(parts).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=Path, required=True)
    parser.add_argument("--column", default="description")
    parser.add_argument("--model", default="bert-base-uncased")
    parser.add_argument("--rows", type=int, default=1024, help="consecutive rows, from the middle of the table")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--max-length", type=int, default=512)
    options = parser.parse_args()

    column = pq.read_table(options.items, columns=[options.column])[options.column].to_pylist()
    texts = [text for text in map(strip_markup, filter(None, column)) if text]
    middle = max(len(texts) - options.rows, 0) // 2
    texts = texts[middle : middle + options.rows]
    embedder = TextEmbedder(options.model, max_length=options.max_length)
    embedder.load()
    plain_loop(embedder, texts[:4], 4)  # warm up

    print(f"{len(texts)} texts, {len(set(texts))} different; {torch.get_num_threads()} threads")
    print(f"{'':<40}{'seconds':>9}{'rows/s':>9}{'ratio':>8}")
    for name, rows in (("all texts", texts), ("each different text once", list(dict.fromkeys(texts)))):
        started = time.perf_counter()
        expected = plain_loop(embedder, rows, options.batch_size)
        plain = time.perf_counter() - started
        with tempfile.TemporaryDirectory() as folder:
            modality = Modality("value", embedder, batch_size=options.batch_size)
            ours, parts = timed_run(Path(folder), rows, modality)
            embeddings = EmbeddingStore.open(Path(folder, "store")).gather(np.arange(len(rows)))
        error = np.abs(embeddings.astype("f4") - expected.astype("f4")).max()
        print(f"{name + ': plain loop':<40}{plain:>9.1f}{len(rows) / plain:>9.1f}{1:>8.2f}")
        print(f"{name + ': estitchup embed':<40}{ours:>9.1f}{len(rows) / ours:>9.1f}{plain / ours:>8.2f}")
        print(f"  its time: {shares(ours, parts)}; largest difference {error:.4f}", flush=True)


if __name__ == "__main__":
    main()

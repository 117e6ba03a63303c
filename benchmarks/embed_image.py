"""Images per second of `estitchup embed`, beside the bare model on tensors that are there, in one run.

    OMP_NUM_THREADS=1 python benchmarks/embed_image.py --images images.zip --model mobilenetv2_100

`estitchup embed` reads, decodes, transforms, embeds, writes and puts the store in place; the bare model runs
`forward_features` and the pooling alone, at the same batch size and memory layout. The two take turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import zipfile
from pathlib import Path

import torch
from embed_clock import shares, timed_run

from estitchup_pl.embed import ImageEmbedder, Modality
from estitchup_pl.embed.modality import open_root


def names_in(root: Path) -> list[str]:
    if root.is_dir():
        return sorted(
            str(path.relative_to(root)) for path in root.rglob("*") if path.suffix.lower() in (".jpg", ".png")
        )
    return [name for name in zipfile.ZipFile(root).namelist() if not name.endswith("/")]


def bare_seconds(embedder: ImageEmbedder, batch: torch.Tensor, images: int) -> float:
    """Seconds for ``images`` images in full batches of preloaded tensors."""
    batches = images // len(batch)
    started = time.perf_counter()
    with torch.inference_mode():
        for _ in range(batches):
            embedder.embed(batch).half()
    return (time.perf_counter() - started) * images / (batches * len(batch))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder or zip file")
    parser.add_argument("--model", default="efficientnet_b4")
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, help="threads that decode; default: the cores")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()

    embedder = ImageEmbedder(options.model, pretrained=False)  # speed does not depend on the weights
    embedder.load()
    names = names_in(options.images)[: options.count]
    read = open_root(options.images)
    started = time.perf_counter()
    tensors = [embedder.prepare(read(name)) for name in names[: options.batch_size]]
    decode = len(tensors) / (time.perf_counter() - started)
    batch = embedder.collate(tensors)
    bare_seconds(embedder, batch, len(batch))  # warm up

    bare, ours, parts = [], [], {}
    for _ in range(options.repeats):
        bare.append(bare_seconds(embedder, batch, len(names)))
        with tempfile.TemporaryDirectory() as folder:
            modality = Modality("value", embedder, root=str(options.images), batch_size=options.batch_size)
            seconds, parts = timed_run(Path(folder), names, modality, workers=options.workers)
            ours.append(seconds)
    ratio = statistics.median(b / o for b, o in zip(bare, ours, strict=True))
    print(f"{options.model}, {len(names)} images, {torch.get_num_threads()} threads of the model")
    print(f"{'':<40}{'images/s':>9}")
    print(f"{'reading and decoding alone, one thread':<40}{decode:>9.1f}")
    print(f"{'bare model, tensors preloaded':<40}{len(names) / statistics.median(bare):>9.1f}")
    print(
        f"{'estitchup embed':<40}{len(names) / statistics.median(ours):>9.1f}   {100 * ratio:.0f} % of the bare model"
    )
    print(f"  its time (last run): {shares(sum(parts.values()), parts)}")


if __name__ == "__main__":
    main()

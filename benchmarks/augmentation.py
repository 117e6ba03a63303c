"""E-Stitchup's mask and whole augmentations: time a batch, each against its plain counterpart.

The mask of ``sample_stitch_mask`` (16 random bits an element) is measured against other ways to draw it, and
E-Stitchup against E-Mixup, drawing and mixing together. Candidates take turns, the fastest round counts.

    python benchmarks/augmentation.py --threads 1
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from estitchup_pl.functional import e_mixup, e_stitchup, sample_lambda, sample_pairs, sample_stitch_mask

ALPHA = 0.4
CLASSES = 171
SHAPES = ((128, 1792), (128, 4864), (4400, 4864))


def masks(lam: Tensor, dim: int, generator: torch.Generator) -> dict[str, Callable[[], Tensor]]:
    shape, column = (*lam.shape, dim), lam.unsqueeze(-1)
    return {
        "rand float32 < lam": lambda: torch.rand(shape, generator=generator) < column,
        "bernoulli": lambda: torch.bernoulli(column.expand(shape), generator=generator).bool(),
        "randint int16 < lam": lambda: (
            torch.randint(0, 2**15, shape, dtype=torch.int16, generator=generator) < (column * 2**15).short()
        ),
        "sample_stitch_mask": lambda: sample_stitch_mask(lam, dim, generator=generator),
    }


def transforms(
    embeddings: Tensor, targets: Tensor, generator: torch.Generator
) -> dict[str, Callable[[], tuple[Tensor, Tensor]]]:
    rows, dim = embeddings.shape

    def mix() -> tuple[Tensor, Tensor]:
        index = sample_pairs((rows,), generator=generator)
        lam = sample_lambda((rows,), ALPHA, generator=generator)
        return e_mixup(embeddings, targets, lam, index)

    def stitch(plain: bool) -> tuple[Tensor, Tensor]:
        index = sample_pairs((rows,), generator=generator)
        lam = sample_lambda((rows,), ALPHA, generator=generator)
        if plain:
            mask = torch.rand(embeddings.shape, generator=generator) < lam[:, None]
            share = lam[:, None]
            mixed = share * targets + (1 - share) * targets[index]
            return torch.where(mask, embeddings, embeddings[index]), mixed
        return e_stitchup(embeddings, targets, lam, index, sample_stitch_mask(lam, dim, generator=generator))

    return {
        "e_mixup": mix,
        "e_stitchup, rand and where": lambda: stitch(plain=True),
        "e_stitchup": lambda: stitch(plain=False),
    }


def fastest(candidates: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    seconds = dict.fromkeys(candidates, float("inf"))
    for _ in range(repeats):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)
    print(f"{options.threads} thread(s), torch {torch.__version__}")
    for rows, dim in SHAPES:
        lam = sample_lambda((rows,), ALPHA, generator=generator)
        embeddings = torch.randn(rows, dim, generator=generator)
        targets = torch.eye(CLASSES)[torch.randint(CLASSES, (rows,), generator=generator)]
        for candidates in (masks(lam, dim, generator), transforms(embeddings, targets, generator)):
            seconds = fastest(candidates, options.repeats)
            base = next(iter(seconds.values()))
            print(f"\n{f'{rows} x {dim}':28}{'ms':>10}{'ratio':>8}")
            for name, value in seconds.items():
                print(f"{name:28}{value * 1e3:10.3f}{value / base:8.3f}")


if __name__ == "__main__":
    main()

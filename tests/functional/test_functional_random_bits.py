"""Keyed bits: known answers, NumPy's stream, and the laws of what is made of them."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats

from estitchup_pl.functional import random_bits as bits

ONES = 2**64 - 1
KNOWN = [  # counter, key and answer of philox4x64 with ten rounds, as published with Random123
    ((0, 0, 0, 0), (0, 0), (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B)),
    (
        (ONES,) * 4,
        (ONES,) * 2,
        (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0),
    ),
    (
        (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
        (0x452821E638D01377, 0xBE5466CF34E90C6C),
        (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
    ),
]


def signed(*words: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor(word - 2**64 if word >= 2**63 else word) for word in words)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, ...], answer: tuple[int, ...]) -> None:
    assert bits.philox(signed(*key), signed(*counter)) == signed(*answer)  # type: ignore[arg-type]


def test_numpys_stream_is_the_same() -> None:
    key = torch.tensor([[3, -5], [2**62, 9]])
    counter = torch.tensor([[[0, 1, 2]], [[7, -1, 2**40]], [[5, 5, 5]]])  # broadcasts against the keys
    expected = bits.philox_words(key, counter, 13)
    assert expected.shape == (3, 2, 13)
    for _ in range(2):  # what one call has left of a block is not the beginning of the next
        assert torch.equal(bits.random_words(key, counter, 13), expected)


KERNEL = """
import torch
from estitchup_pl.functional.random_bits import philox_words
from estitchup_pl.functional.random_triton import triton_words
key = torch.tensor([[3, -5], [2**62, 9]])
counter = torch.tensor([[[0, 1, 2]], [[7, -1, 2**40]], [[5, 5, 5]]])
for count in (13, 2000):
    assert torch.equal(triton_words(key, counter, count), philox_words(key, counter, count))
assert triton_words(key[:0], torch.tensor([1, 2, 3]), 5).shape == (0, 5)
"""


def test_the_kernel_for_gpus_draws_the_same() -> None:
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1"}  # on the CPU; it must be set before triton is imported
    done = subprocess.run([sys.executable, "-c", KERNEL], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_stream_depends_on_each_part_of_its_name_and_on_no_other_stream() -> None:
    key, counter = torch.tensor([[1, 2], [3, 4]]), torch.tensor([5, 6, 7])
    both = bits.random_words(key, counter, 100)
    assert torch.equal(both[1], bits.random_words(key[1], counter, 100))
    seen = {tuple(both[0, :2].tolist())}
    for changed in range(5):
        name = torch.tensor([1, 2, 5, 6, 7])
        name[changed] += 1
        seen.add(tuple(bits.random_words(name[:2], name[2:], 2).tolist()))
    assert len(seen) == 6


def test_levels_and_uniforms_are_uniform_and_uncorrelated() -> None:
    words = bits.random_words(torch.tensor([1, 2]), torch.tensor([3, 4, 5]), 2**16)
    levels = bits.to_levels(words, 2**18 - 3)
    assert levels.shape == (2**18 - 3,)
    counts = np.bincount((levels.numpy().astype(int) + 2**15) >> 8, minlength=256)
    assert stats.chisquare(counts).pvalue > 0.001
    for uniforms in bits.to_uniforms(words):
        assert float(uniforms.min()) > 0
        assert float(uniforms.max()) <= 1
        assert stats.kstest(uniforms.double().numpy(), "uniform").pvalue > 0.001
    first, second = (uniforms.numpy() for uniforms in bits.to_uniforms(words))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.02


def test_a_choice_is_true_as_often_as_asked_for() -> None:
    words = bits.random_words(torch.tensor([1, 2]), torch.tensor([3, 4, 5]), bits.level_words(5 * 40_000))
    levels = bits.to_levels(words, 5 * 40_000).view(5, 40_000)
    share = torch.tensor([0.0, 0.1, 0.5, 0.97, 1.0])
    chosen = bits.below(levels, share[:, None]).double().mean(dim=-1)
    assert chosen[0] == 0
    assert chosen[4] == 1
    torch.testing.assert_close(chosen.float(), share, atol=0.01, rtol=0)
    every = torch.arange(-(2**15), 2**15).to(torch.int16)
    assert int(bits.below(every, torch.tensor(1 / 3)).sum()) == round(2**16 / 3)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.4, 0.5, 1.0, 3.0, 40.0])
def test_shares_have_the_law_of_the_symmetric_beta(alpha: float) -> None:
    words = bits.random_words(torch.tensor([1, 2]), torch.tensor([3, 4, 5]), 200_000)
    shares = bits.to_beta(words, torch.tensor(alpha)).double().numpy()
    inner = shares[(shares > 1e-6) & (shares < 1 - 1e-6)]  # beyond, float32 has too few numbers near one

    def law(x):
        ends = stats.beta.cdf([1e-6, 1 - 1e-6], alpha, alpha)
        return (stats.beta.cdf(x, alpha, alpha) - ends[0]) / (ends[1] - ends[0])

    assert stats.kstest(inner, law).pvalue > 0.001
    for end in (shares <= 1e-6, shares >= 1 - 1e-6):
        assert end.mean() == pytest.approx(stats.beta.cdf(1e-6, alpha, alpha), abs=0.005)


def test_a_tiny_alpha_gives_whole_shares_each_half_of_the_time() -> None:
    words = bits.random_words(torch.tensor([1, 2]), torch.tensor([3, 4, 5]), 10_000)
    shares = bits.to_beta(words, torch.tensor(1e-6))
    assert float(((shares == 0) | (shares == 1)).double().mean()) > 0.999
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.03)


def test_partners_form_one_circle_of_the_items_that_there_are() -> None:
    words = bits.random_words(torch.tensor([[1, 2], [3, 4], [5, 6], [7, 8]]), torch.tensor([3, 4, 5]), 9)
    rows = torch.tensor([9, 5, 1, 0])
    partners = bits.to_partners(words, rows)
    for own, count in zip(partners.tolist(), rows.tolist(), strict=True):
        assert own[count:] == list(range(count, 9))
        place, visited = 0, []
        for _ in range(count):
            visited.append(place)
            place = own[place]
        assert place == 0
        assert sorted(visited) == list(range(count))


def test_partners_are_equally_likely_and_do_not_depend_on_room_to_spare() -> None:
    key = torch.stack([torch.arange(30_000), torch.ones(30_000, dtype=torch.int64)], dim=-1)
    words = bits.random_words(key, torch.tensor([0, 0, 0]), 6)
    partners = bits.to_partners(words, torch.full((30_000,), 4))
    counts = np.bincount(partners[:, 0].numpy(), minlength=6)
    assert counts[0] == counts[4] == counts[5] == 0
    assert stats.chisquare(counts[1:4]).pvalue > 0.001
    assert torch.equal(bits.to_partners(words[:, :4], torch.full((30_000,), 4)), partners[:, :4])

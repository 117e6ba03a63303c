"""Keyed randomness: a function of its key, of nothing else."""

from __future__ import annotations

import itertools

import torch

from estitchup_pl.seeding import derive_seed, global_seed, keyed_generator


def test_equal_keys_draw_equal_numbers_whatever_came_before() -> None:
    first = torch.rand(5, generator=keyed_generator(3, "EMixup", 2, 1, 0))
    torch.rand(100)
    assert torch.equal(first, torch.rand(5, generator=keyed_generator(3, "EMixup", 2, 1, 0)))


def test_every_part_of_a_key_counts() -> None:
    keys = itertools.product((0, 1), ("a", "b"), (0, 1), (0, 1))
    seeds = [derive_seed(*key) for key in keys]
    assert len(set(seeds)) == len(seeds)


def test_a_number_and_its_text_and_a_shifted_boundary_are_other_keys() -> None:
    assert derive_seed(1, 2) != derive_seed("1", 2)
    assert derive_seed("ab", "c") != derive_seed("a", "bc")


def test_seeds_are_the_same_on_every_machine() -> None:
    assert derive_seed(0, "shuffle", 0) == 957715175500243578


def test_the_global_seed_is_lightnings(monkeypatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "17")
    assert global_seed() == 17
    monkeypatch.delenv("PL_GLOBAL_SEED")
    assert global_seed() == 0

"""No process of a run waits for another that has ended."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from estitchup_pl.embed import companions
from estitchup_pl.embed.companions import Companions
from estitchup_pl.embed.state import Unit
from estitchup_pl.errors import DataError
from estitchup_pl.store import write_shard


def test_a_process_that_ends_before_its_shards_are_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(companions, "_SECONDS", 0.0)
    shares = {0: [], 1: [Unit("title", 0, 0, 0, 4)]}
    first, second = (Companions(tmp_path, rank, shares) for rank in shares)
    with first.joined():
        with second.joined():
            first.look()
            second.look()
        with pytest.raises(DataError, match="process 1 of 2 has ended before all shards were there"):
            first.look()
        write_shard(tmp_path, "title", 0, np.ones((4, 2), np.float32))
        first.look()  # it had done its work
    with pytest.raises(DataError, match="process 0 of 2 has ended"):
        second.look()


def test_where_others_have_ended_for_a_lost_one_it_is_named_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(companions, "_SECONDS", 0.0)
    shares = {rank: [Unit("title", rank, 0, 0, 4)] for rank in range(4)}
    last, other = (Companions(tmp_path, rank, shares) for rank in (3, 2))
    with other.joined(), pytest.raises(DataError, match="processes 0, 1 of 4 have ended"):  # 1 was lost, and 0 saw it
        last.look()


def test_it_looks_now_and_then(tmp_path: Path) -> None:
    alone = Companions(tmp_path, 0, {0: [], 1: [Unit("title", 0, 0, 0, 4)]})
    alone.look()  # not yet: the other may have no lock in the first moment

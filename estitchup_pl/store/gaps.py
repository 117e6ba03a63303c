"""What items lack: a modality that they never had, or one that could not be read or embedded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from estitchup_pl.store.embedding_store import EmbeddingStore
from estitchup_pl.store.files import FAILURES_NAME, read_table
from estitchup_pl.store.items import flag_column

NOTHING: Final = "nothing there"
"""What is said of a modality that an item has no value of."""


class Gaps(NamedTuple):
    """What the items of a store lack.

    Attributes:
        problems: By row, which modalities an item lacks and why, ``"photo: missing file 7.jpg; title: nothing there"``;
            only rows that lack one.
        empty: Whether an item lacks all, so that there is nothing to decide by, bool ``(rows,)``.
    """

    problems: dict[int, str]
    empty: npt.NDArray[np.bool_]


def find_gaps(store: EmbeddingStore, modalities: Iterable[str]) -> Gaps:
    """Say what each item lacks of some modalities; the reasons of failures are those that ``estitchup embed`` kept.

    Args:
        store: The store.
        modalities: Names of its modalities.

    Raises:
        StoreError: If a modality or a file is not there, or damaged.

    Example:
        >>> items = pa.table({"id": ["a", "b"]})
        >>> store = EmbeddingStore.from_arrays(items, {"photo": np.array([[1.0], [0.0]])})
        >>> find_gaps(store, ["photo"]).problems
        {1: 'photo: nothing there'}
    """
    present = {name: store.column(flag_column(name)).to_numpy().astype(np.bool_) for name in modalities}
    flags = np.stack([*present.values()])
    rows = np.flatnonzero(~flags.all(axis=0))
    ids = store.column("id").take(pa.array(rows)).to_pylist()
    reasons = _reasons(store) if len(rows) else {}
    problems = {}
    for row, identifier in zip(rows.tolist(), ids, strict=True):
        lacking = [name for name in present if not present[name][row]]
        problems[row] = "; ".join(f"{name}: {reasons.get((identifier, name), NOTHING)}" for name in lacking)
    empty: npt.NDArray[np.bool_] = ~np.bitwise_or.reduce(flags)
    return Gaps(problems, empty)


def _reasons(store: EmbeddingStore) -> dict[tuple[str, str], str]:
    """Why an item lacks a modality, by its id and the modality, where ``estitchup embed`` has noted it."""
    if store.path is None or not (store.path / FAILURES_NAME).exists():
        return {}
    table = read_table(store.path / FAILURES_NAME)
    columns = (table[name].to_pylist() for name in ("id", "modality", "reason"))
    return {(identifier, name): reason for identifier, name, reason in zip(*columns, strict=True)}

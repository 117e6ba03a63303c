"""Groups of similar items among those without a class: candidates for new categories."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.cluster import HDBSCAN
from torch import Tensor
from torch.nn.functional import normalize

SMALLEST: Final = 3
"""Items that make a cluster."""


def describe_clusters(queue: pa.Table, shown: str, groups: int = 5, examples: int = 3) -> list[str]:
    """Say how large the groups of a queue are and what is in them, so that people can name them.

    Args:
        queue: Items with their ``cluster``, the most worthwhile first.
        shown: Column that is shown of an item.
        groups: How many groups are described, the largest first.
        examples: How many items of each are shown.

    Example:
        >>> queue = pa.table({"title": ["red hat", "mug", "blue hat"], "cluster": [0, None, 0]})
        >>> describe_clusters(queue, "title")
        ["0: 2 items, such as 'red hat', 'blue hat'"]
    """
    members: dict[int, list[str]] = {}
    for item, cluster in zip(queue[shown].to_pylist(), queue["cluster"].to_pylist(), strict=True):
        if cluster is not None:
            members.setdefault(cluster, []).append(repr(item))
    largest = sorted(members, key=lambda cluster: (-len(members[cluster]), cluster))[:groups]
    return [f"{name}: {len(members[name])} items, such as {', '.join(members[name][:examples])}" for name in largest]


def cluster_none(embeddings: Tensor, smallest: int = SMALLEST) -> npt.NDArray[np.int64]:
    """Group items by the directions of their embeddings (HDBSCAN; Campello et al., 2013).

    Args:
        embeddings: Float ``(rows, dim)``.
        smallest: Items that make a cluster, at least 2.

    Returns:
        Cluster of each item, the largest first from 0; -1 for items that belong to none. Int64 ``(rows,)``.

    Example:
        >>> import torch
        >>> points = torch.eye(2).repeat_interleave(4, dim=0) + torch.linspace(0, 0.01, 8)[:, None]
        >>> sorted(set(cluster_none(points).tolist()))
        [0, 1]
    """
    if len(embeddings) < 2 * smallest:  # too few to tell a group from the rest
        return np.full(len(embeddings), -1, dtype=np.int64)
    unit = normalize(embeddings.float(), dim=1).numpy()
    found = HDBSCAN(min_cluster_size=smallest, copy=True).fit_predict(unit)
    sizes = np.bincount(found[found >= 0], minlength=1)
    rank = np.empty(len(sizes) + 1, dtype=np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    rank[-1] = -1  # found by the index -1
    clusters: npt.NDArray[np.int64] = rank[found]
    return clusters

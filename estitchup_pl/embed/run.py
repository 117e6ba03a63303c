"""What ``estitchup embed`` does, in one call: check the options, load the encoders, start the processes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from estitchup_pl.embed.finish import EmbedSummary
from estitchup_pl.embed.loop import OnError, embed_shards, file_readers
from estitchup_pl.embed.modality import Modality
from estitchup_pl.embed.recipe import Recipe, refuse_other_recipe
from estitchup_pl.embed.start import Request
from estitchup_pl.errors import ConfigError
from estitchup_pl.store.header import check_modality_name
from estitchup_pl.tables import ItemReader

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Precision = Literal["32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true"]


def embed_items(
    out: str | Path,
    items: ItemReader,
    modalities: Mapping[str, Modality],
    id: str = "id",
    label: str | None = None,
    on_error: OnError = "fail",
    rows_per_shard: int = 4096,
    workers: int | None = None,
    restart: bool = False,
    accelerator: str = "auto",
    devices: int | list[int] | str = "auto",
    num_nodes: int = 1,
    strategy: Literal["auto", "ddp"] = "auto",
    precision: Precision = "32-true",
    same_as: Mapping[str, Recipe] | None = None,
) -> EmbedSummary | None:
    """Embed a table of items and write an :class:`~estitchup_pl.store.EmbeddingStore`.

    Killed at any point, the same call goes on where it stopped, with the same result to the byte on the same
    devices. On a finished store it embeds new items only: those whose id is not in the store yet, which are
    appended in the order of the table; the table must still hold the old ones with their inputs unchanged, in
    any order. Other columns, such as labels, are taken from the table anew. A modality new in the config is
    added for all items.

    Args:
        out: Folder of the store.
        items: Reader of the input table.
        modalities: The modalities, by name, in the store's order.
        id: Column with the items' ids, unique.
        label: Column with their labels.
        on_error: ``fail`` stops at the first value that cannot be read or embedded, ``missing`` leaves the item
            without this modality and lists it in ``failures.parquet``. Empty values are no errors.
        rows_per_shard: Rows in one file, and so the most that a killed process has to do again.
        workers: Threads of each process that decode, tokenize and so on; by default its share of the cores.
        restart: Drop what an unfinished run left, and replace a finished store once the new one is whole.
        accelerator: Kind of device, as Lightning Fabric names it: ``cpu``, ``gpu``, ``mps``, ``auto``.
        devices: How many of them on each machine, or which; ``auto`` for all GPUs. Each gets a process.
        num_nodes: Number of machines.
        strategy: ``ddp`` for several processes that find each other; each of them holds whole encoders.
        precision: In which the encoders run.
        same_as: For each modality the recipe, as the header of another store has it, that its encoder has to follow:
            for new items of a model that is there. Not one of them then needs to have a modality.

    Returns:
        What the run did; ``None`` on all processes but the first.

    Raises:
        CheckpointError: If an encoder is another than ``same_as`` says.
        ConfigError: For options that cannot work, or that differ from those of the store or run in ``out``.
        DataError: For items that cannot be read or embedded.
    """
    _check_options(modalities, rows_per_shard, workers)
    request = Request(Path(out).absolute(), items, id, label, modalities, rows_per_shard, restart, same_as)
    file_readers(request)  # a root that is not there is said before a model is loaded
    fabric = _fabric(accelerator, devices=devices, num_nodes=num_nodes, strategy=strategy, precision=precision)
    for modality in modalities.values():
        modality.embedder.load()
    for name, recipe in (same_as or {}).items():
        refuse_other_recipe(name, recipe, modalities[name])
    share = partial(embed_shards, request=request, on_error=on_error, workers=workers, num_nodes=num_nodes)
    summary: EmbedSummary | None = fabric.launch(share)
    return summary


def _check_options(modalities: Mapping[str, Modality], rows_per_shard: int, workers: int | None) -> None:
    if not modalities:
        raise ConfigError("modalities: expected at least one, got none")
    for name in modalities:
        check_modality_name(name)
    for option, count in (("rows_per_shard", rows_per_shard), ("workers", workers)):
        if count is not None and count < 1:
            raise ConfigError(f"{option}: expected at least 1, got {count}")


def _fabric(accelerator: str, **options: Any) -> Fabric:
    # Imported when everything else is known to be right: it takes several times as long as all that.
    from lightning.fabric import Fabric
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    try:
        return Fabric(accelerator=accelerator, **options)
    except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
        named = ", ".join(f"{name} {value!r}" for name, value in {"accelerator": accelerator, **options}.items())
        raise ConfigError(f"Lightning Fabric cannot work with {named}: {error}") from error

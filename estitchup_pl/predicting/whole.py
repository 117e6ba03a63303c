"""``predict_items``: embed what has to be embedded, decide, write, and say what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lightning.pytorch as pl
import pyarrow as pa

from estitchup_pl.callbacks import PredictionWriter
from estitchup_pl.callbacks.prediction_summary import PredictionSummary
from estitchup_pl.data import EmbeddingDataModule, open_store
from estitchup_pl.data.trained_rows import build_split
from estitchup_pl.embed.loop import OnError
from estitchup_pl.errors import ConfigError
from estitchup_pl.model import EmbeddingClassifier
from estitchup_pl.predicting.choosing import Choice, RowsOf
from estitchup_pl.predicting.encoding import Arrays, RawItems
from estitchup_pl.store import HEADER_NAME, EmbeddingStore

_QUIET: Final[Mapping[str, Any]] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "devices": 1,
}

Items = RawItems | Arrays | EmbeddingStore | str | Path
"""What decisions are wanted about; text and paths are folders of stores."""


@dataclass(frozen=True)
class Predicted:
    """What :func:`predict_items` has done.

    Attributes:
        summary: Counts of the file of predictions.
        checkpoint: Checkpoint of the model.
        store: Folder of the embeddings; ``None`` where they are in memory only.
        unlabelled: Items in it without a label, which can be asked for.
    """

    summary: PredictionSummary
    checkpoint: Path
    store: Path | None
    unlabelled: int

    def __str__(self) -> str:
        lines = [str(self.summary)]
        if self.store is not None and self.unlabelled:
            queue = f"estitchup queue --store {self.store} --ckpt_path {self.checkpoint} --out queue.csv"
            lines += ["next, what is worth a label:", f"  {queue}"]
        return "\n".join(lines)


def predict_items(
    ckpt_path: str | Path,
    items: Items,
    out: str | Path,
    *,
    store: str | Path | None = None,
    choice: Choice | None = None,
    rows: RowsOf = "all",
    on_error: OnError = "missing",
    level: float = 0.9,
    top_k: int = 5,
    overwrite: bool = False,
    restart: bool = False,
    other_encoder: bool = False,
    accelerator: str = "auto",
    callbacks: Sequence[pl.Callback] = (),
    say: Callable[[str], None] = lambda text: None,
) -> Predicted:
    """Decide about items, and write the decisions to a file; see :class:`~estitchup_pl.callbacks.PredictionWriter`.

    A table with texts and pictures is embedded first, as the items were that the model was trained on: its checkpoint
    says how. Killed while it embeds, the same call goes on.

    Args:
        ckpt_path: Checkpoint of the model.
        items: A table, arrays, or a store.
        out: File to write: ``.parquet`` or ``.csv``.
        store: Folder that embeddings go to, beside ``out`` if not given. Into a folder that is named, the whole table
            is embedded, so that it can grow with it, whatever ``choice`` says.
        choice: Items that are decided about; all if not given.
        rows: Rows of a store: all, those without a label, or those that the split of the model's fit tests on.
        on_error: ``missing`` decides without a value that cannot be read or embedded, and says so in the column
            ``problem``; ``fail`` stops there.
        level: Share of items of known classes whose prediction set is to hold their class.
        top_k: Most likely classes to write.
        overwrite: Replace a file that is there.
        restart: Embed everything anew.
        other_encoder: Take embeddings that were made in another way than those that the model was trained on.
        accelerator: As for :class:`lightning.pytorch.Trainer`.
        callbacks: Further callbacks of the trainer.
        say: Told in sentences what is done.

    Raises:
        CheckpointError: If the checkpoint cannot be read, or other encoders have made the embeddings.
        ConfigError: For a wrong call, or a file that is there.
        DataError: For a table that cannot be used.
        StoreError: For embeddings that cannot be used.
        WriteError: If the file or the store cannot be written.

    Example:
        >>> from estitchup_pl.predicting import RawItems, predict_items
        >>> done = predict_items("model/model.ckpt", RawItems("new.csv"), "decisions.csv")  # doctest: +SKIP
        >>> print(done)  # doctest: +SKIP
    """
    choice = choice or Choice()
    writer = PredictionWriter(out, top_k, overwrite, level)
    model = EmbeddingClassifier.load_from_checkpoint(ckpt_path, map_location="cpu")
    _refuse_to_lose(writer, items)
    place = Path(store) if store else writer.path.with_suffix(".store")
    if isinstance(items, RawItems):
        if not items.count(model, choice):
            return Predicted(writer.write_nothing(model, pa.string()), Path(ckpt_path), None, 0)
        say(f"embedding {items.items} into {place}")
        options = {"on_error": on_error, "accelerator": accelerator, "restart": restart}
        options["other_encoder"] = other_encoder
        opened = _embedded(items, model, place, Choice() if store else choice, options, replace=overwrite and not store)
    elif isinstance(items, Arrays):
        opened = items.store(model, place, overwrite=restart or overwrite or not store)
    else:
        opened = open_store(items)
    checked = isinstance(items, RawItems)  # by the weights of the encoders, which no name can belie
    split = build_split(model.trained_on.split) if rows == "test" and model.trained_on else None
    data = EmbeddingDataModule(opened, split, predict_rows="all", other_encoder=other_encoder or checked)
    numbers = choice.rows(data, rows)
    if len(numbers):
        data.predict_rows = "all" if len(numbers) == len(opened) else numbers.tolist()
        trainer = pl.Trainer(**_QUIET, accelerator=accelerator, callbacks=[writer, *callbacks])
        trainer.predict(model, data, return_predictions=False)
    summary = writer.summary or writer.write_nothing(model, opened.ids.type)
    return Predicted(summary, Path(ckpt_path), opened.path, data.labels.unlabelled.size)


def _refuse_to_lose(writer: PredictionWriter, items: Items) -> None:
    """Raise :class:`ConfigError` for a file that is there and not to be replaced, before anything is embedded."""
    if not writer.path.exists():
        return
    table = items.items if isinstance(items, RawItems | Arrays) else None
    if table and Path(table).exists() and writer.path.samefile(table):
        raise ConfigError(f"out: {writer.path} is the table itself; choose another file")
    if not writer.overwrite:
        raise ConfigError(f"{writer.path} exists: choose another file, or replace it with --overwrite")


def _embedded(
    items: RawItems, model: EmbeddingClassifier, place: Path, choice: Choice, options: dict[str, Any], *, replace: bool
) -> EmbeddingStore:
    """Embed a table; what an earlier one has left where it may be replaced is replaced, if this one does not go on."""
    try:
        return items.embed(model, place, choice, **options)
    except ConfigError:
        if not replace or options["restart"] or not (place / HEADER_NAME).exists():
            raise
        return items.embed(model, place, choice, **{**options, "restart": True})

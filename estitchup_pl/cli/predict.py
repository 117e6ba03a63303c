"""``estitchup predict``: decisions about new items; with the options of LightningCLI about the rows of a store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, get_args

from rich.console import Console

from estitchup_pl.cli import lightning
from estitchup_pl.cli.interruption import EndInOrder
from estitchup_pl.cli.parser import CommandParser
from estitchup_pl.cli.study import quiet_lightning
from estitchup_pl.errors import ConfigError
from estitchup_pl.predicting import Arrays, Choice, RawItems, RowsOf, predict_items

_DESCRIPTION: Final = """\
Write the class or "none" of each item, its confidence and more to a parquet or CSV file. A table with texts and
pictures is embedded first, as the items were that the model was trained on. Interrupted, the same command goes on.
"""

_RAW: Final = ("text", "image", "root", "text_encoder", "image_checkpoint")
"""Options that only a table with texts and pictures takes."""


def main(argv: list[str]) -> int:
    """Run ``estitchup predict`` with the words after it; return the exit status 0.

    Raises:
        CheckpointError: If the checkpoint cannot be read, or other encoders have made the embeddings.
        ConfigError: For a wrong call.
        DataError: For items that cannot be used.
    """
    if is_of_lightning(argv):
        return lightning.main(["predict", *argv])
    options = predict_parser().parse_call(argv).as_dict()
    items = _items(options)
    choice = Choice.of(options.pop("ids") or (), options.pop("since"))
    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False)

    with quiet_lightning():
        done = predict_items(items=items, choice=choice, callbacks=[EndInOrder()], say=say, **options)
    print(done)
    return 0


def is_of_lightning(words: Iterable[str]) -> bool:
    """Whether a call names an option of LightningCLI: a configuration, or a part of one by its path.

    Example:
        >>> is_of_lightning(["--data.store", "products"]), is_of_lightning(["--store", "products"])
        (True, False)
    """
    return any(word.startswith(_LIGHTNING) for word in words)


_LIGHTNING: Final = (
    *("--config", "--print_config", "--seed_everything", "--return_predictions", "--weights_only", "--help"),
    *("--data", "--model", "--trainer", "--predictions"),
)


def _items(options: dict[str, Any]) -> RawItems | Arrays | str:
    """Take out of the options what the items are."""
    table, arrays = options.pop("items"), options.pop("modality")
    raw = {name: value for name in _RAW if (value := options.pop(name))}
    identifier = options.pop("id")
    if raw and (arrays or table is None):
        raise ConfigError(f"--{next(iter(raw))} belongs to a table with texts and pictures: --items TABLE")
    if arrays:
        return Arrays(_pairs(arrays), table, identifier)
    if table is not None:
        return RawItems(table, id=identifier, **raw)
    if options["store"] is None:
        raise ConfigError(
            "expected items: a table with texts and pictures (--items TABLE), a store (--store DIR), or embeddings "
            "(--modality NAME=FILE)"
        )
    return str(options.pop("store"))


def _pairs(words: Iterable[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for word in words:
        name, _, place = word.partition("=")
        if not name or not place or name in pairs:
            raise ConfigError(f"--modality: expected NAME=FILE, each name once, got {word!r}")
        pairs[name] = place
    return pairs


def predict_parser() -> CommandParser:
    """Parser of the command's options, but for those of LightningCLI."""
    parser = CommandParser(prog="estitchup predict", description=_DESCRIPTION)
    parser.add_argument("--ckpt_path", metavar="FILE", required=True, help="checkpoint of a model")
    parser.add_argument("--items", metavar="TABLE", help="table of items: .csv, .parquet, .jsonl or a folder")
    parser.add_argument("--store", metavar="DIR", help="store of embeddings; with --items the folder they go to")
    parser.add_argument("--modality", metavar="NAME=FILE", nargs="+", help="embeddings: .npy, .npz or .parquet:COLUMN")
    parser.add_argument("--out", metavar="FILE", default="predictions.parquet", help="file to write, .parquet or .csv")
    parser.add_argument("--text", metavar="COLUMN", nargs="+", help="columns with texts (default: as in training)")
    parser.add_argument("--image", metavar="COLUMN", nargs="+", help="columns with pictures, or with their paths")
    parser.add_argument("--root", metavar="DIR", help="folder or zip file that the paths are relative to")
    parser.add_argument("--id", metavar="COLUMN", help="unique name of each item (default: as in training)")
    parser.add_argument("--since", metavar="FILE", help="leave out the items of an earlier file of predictions")
    parser.add_argument("--ids", metavar="ID", nargs="+", help="only these items: their ids, or a file of them")
    parser.add_argument("--rows", choices=get_args(RowsOf), default="all", help="rows of a store")
    parser.add_argument(
        "--on_error", choices=("missing", "fail"), default="missing", help="what a value does that cannot be embedded"
    )
    parser.add_argument("--level", type=float, default=0.9, help="share of prediction sets that hold the class")
    parser.add_argument("--top_k", type=int, default=5, help="number of most likely classes of an item")
    parser.add_argument("--text_encoder", metavar="MODEL", help="where the text encoder has moved to")
    parser.add_argument("--image_checkpoint", metavar="FILE", help="where the image encoder's weights have moved to")
    parser.add_argument("--accelerator", default="auto", help="cpu, gpu ...")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    parser.add_argument("--restart", action="store_true", help="embed everything anew")
    parser.add_argument("--other_encoder", action="store_true", help="take embeddings of another encoder all the same")
    return parser

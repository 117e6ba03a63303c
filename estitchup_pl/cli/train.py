"""``estitchup train``: from a table of items, or a store, to a model."""

from __future__ import annotations

from typing import Final

from rich.console import Console

from estitchup_pl.cli.parser import CommandParser
from estitchup_pl.cli.study import progress, quiet_lightning
from estitchup_pl.training import train
from estitchup_pl.training.catalogue import IMAGE_ENCODER, TEXT_ENCODER

_DESCRIPTION: Final = """\
Make a model of a table of items with texts and pictures, or of a store: embed what is not embedded yet, choose among
methods by validation rows, measure the choice on rows and classes that it has not seen, and refit on all labelled
rows. Interrupted at any point, the same command goes on where it stopped.
"""


def main(argv: list[str]) -> int:
    """Run ``estitchup train`` with the words after it; return the exit status 0.

    Raises:
        ConfigError: For a wrong call.
        DataError: For a catalogue or a store that cannot be used.
    """
    options = train_parser().parse_call(argv).as_dict()
    given = {name: value for name, value in options.items() if value is not None}
    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False)

    with quiet_lightning(), progress(console) as report:
        made = train(report=report, say=say, **given)
    print(made)
    return 0


def train_parser() -> CommandParser:
    """Parser of the command's options."""
    parser = CommandParser(prog="estitchup train", description=_DESCRIPTION)
    parser.add_argument("items", metavar="TABLE", nargs="?", help="table of items: .csv, .parquet, .jsonl or a folder")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder of the model; made if it is not there")
    parser.add_argument("--label", metavar="COLUMN", help="class of each item; empty where it is not known")
    parser.add_argument("--text", metavar="COLUMN", nargs="+", help="columns with texts")
    parser.add_argument("--image", metavar="COLUMN", nargs="+", help="columns with pictures, or with their paths")
    parser.add_argument("--root", metavar="DIR", help="folder or zip file that the paths are relative to")
    parser.add_argument("--id", metavar="COLUMN", help="unique name of each item (default: id)")
    parser.add_argument("--store", metavar="DIR", help="folder of a store, or digits, in the place of a table")
    parser.add_argument("--modalities", metavar="NAME", nargs="+", help="modalities of the store (default: all)")
    parser.add_argument("--budget", default="standard", help="quick, standard, thorough, '60 fits' or '30 min'")
    parser.add_argument("--text_encoder", metavar="MODEL", help=f"model of transformers (default: {TEXT_ENCODER})")
    parser.add_argument("--image_encoder", metavar="MODEL", help=f"model of timm (default: {IMAGE_ENCODER})")
    parser.add_argument("--image_checkpoint", metavar="FILE", help="its weights, where they are not to be downloaded")
    parser.add_argument("--accelerator", default="auto", help="cpu, gpu ...")
    parser.add_argument("--workers", type=int, help="processes that share the fits (default: as many as pay)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all fits")
    return parser

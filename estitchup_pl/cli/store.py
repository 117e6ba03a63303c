"""``estitchup store``: create, describe and verify stores of embeddings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import pyarrow.compute as pc

from estitchup_pl.cli.help import short_help
from estitchup_pl.cli.parser import CommandParser
from estitchup_pl.errors import ConfigError, StoreError, did_you_mean
from estitchup_pl.store import DTYPES, EmbeddingStore, ModalityInfo, RowSource, flag_column, name_hint
from estitchup_pl.store.blocks import describe_source
from estitchup_pl.tables import (
    Imported,
    columns_within,
    number_rows,
    open_clip_retrieval,
    open_embeddings,
    open_hugging_face,
    open_items,
    prepare_items,
    read_items,
)


def main(argv: list[str]) -> int:
    """Run ``estitchup store`` with the words after it; return the exit status 0.

    Raises:
        ConfigError: For a wrong call.
        StoreError: For input that makes no store, a store that is broken, or a disk that is full.
    """
    if not argv or argv[0].startswith("-"):
        print(short_help("store"))
        return 0
    if argv[0] not in COMMANDS:
        rest = did_you_mean(argv[0], COMMANDS) or f"\n\n{short_help('store')}"
        raise ConfigError(f"there is no command 'store {argv[0]}'{rest}")
    arguments = SimpleNamespace(**store_parser(argv[0]).parse_call(argv[1:]).as_dict())  # one option is called items
    try:
        COMMANDS[argv[0]].run(arguments)
    except BrokenPipeError:
        raise
    except OSError as error:
        where = error.filename or getattr(arguments, "out", None) or arguments.store
        raise StoreError(f"{where}: {error.strerror or error}") from error
    return 0


def store_parser(command: str) -> CommandParser:
    """Parser of the options of ``estitchup store create``, ``info`` or ``verify``."""
    parser = CommandParser(prog=f"estitchup store {command}", description=COMMANDS[command].description)
    COMMANDS[command].add_options(parser)
    return parser


def _create(arguments: SimpleNamespace) -> None:
    source = arguments.items or arguments.huggingface or arguments.clip_retrieval
    flags = _pairs("--has", arguments.has)
    encoders = _pairs("--encoder", arguments.encoder)
    items, embeddings = _import(arguments)
    for option, pairs in (("--has", flags), ("--encoder", encoders)):
        for name in pairs:
            if name not in embeddings:
                raise ConfigError(f"{option}: there is no modality {name!r}{name_hint(name, embeddings)}")
    if arguments.row_ids:
        items = number_rows(items, source)
    items = prepare_items(
        items,
        source,
        id_column=arguments.id,
        label_column=arguments.label,
        split_column=arguments.split,
        flag_columns={name: flags.get(name) for name in embeddings},
    )
    store = EmbeddingStore.create(
        arguments.out,
        items,
        embeddings,
        info={
            name: _describe(rows, len(items), arguments.dtype, encoders.get(name)) for name, rows in embeddings.items()
        },
        rows_per_shard=arguments.rows_per_shard,
        progress=not arguments.quiet,
        overwrite=arguments.overwrite,
        items_name=source,
    )
    if not arguments.quiet:
        print(_readable(summarize(store)))


def _import(arguments: SimpleNamespace) -> Imported:
    """Open whichever of the sources the options name."""
    modalities = _pairs("--modality", arguments.modality)
    if arguments.clip_retrieval:
        if modalities:
            raise ConfigError("--clip-retrieval takes no --modality: the folder names them image and text")
        return open_clip_retrieval(arguments.clip_retrieval, drop=arguments.drop)
    if not modalities:
        raise ConfigError("expected at least one --modality NAME=FILE[:COLUMN]")
    if arguments.huggingface:
        return open_hugging_face(arguments.huggingface, modalities, drop=arguments.drop)
    path = Path(arguments.items)
    rows = {name: open_embeddings(place) for name, place in modalities.items()}
    own = columns_within(path, modalities.values())
    reader = open_items(path, delimiter=arguments.delimiter, encoding=arguments.encoding, drop=[*own, *arguments.drop])
    names = {arguments.id, arguments.label or "label", arguments.split or "split"}
    return Imported(read_items(reader, arguments.items, keep=names), rows)


def _describe(source: RowSource, rows: int, dtype: str | None, encoder: str | None) -> ModalityInfo:
    info = describe_source(source, rows, None)
    return replace(info, dtype=dtype or info.dtype, encoder=encoder)


def _info(arguments: SimpleNamespace) -> None:
    summary = summarize(EmbeddingStore.open(arguments.store))
    print(json.dumps(summary, indent=2) if arguments.json else _readable(summary))


def _verify(arguments: SimpleNamespace) -> None:
    store = EmbeddingStore.open(arguments.store)
    store.verify(progress=not arguments.quiet)
    print(f"{arguments.store}: whole ({len(store):,} rows, {', '.join(store.modalities)})")


def summarize(store: EmbeddingStore) -> dict[str, Any]:
    """What is in a store on disk, as plain values: rows, labels and modalities, without reading embeddings."""
    labels = store.column("label")
    modalities = {}
    for name, info in store.modalities.items():
        present = pc.sum(store.column(flag_column(name))).as_py()
        modalities[name] = {**asdict(info), "missing": len(store) - present, "bytes": store.bytes_on_disk(name)}
    return {
        "path": str(store.path),
        "rows": len(store),
        "labelled": len(store) - labels.null_count,
        "classes": pc.count_distinct(labels).as_py(),
        "columns": store.column_names,
        "modalities": modalities,
    }


def _readable(summary: Mapping[str, Any]) -> str:
    rows = [("modality", "dim", "dtype", "missing rows", "MiB", "encoder")]
    for name, facts in summary["modalities"].items():
        size = f"{facts['bytes'] / 2**20:,.1f}"
        rows.append(
            (name, str(facts["dim"]), facts["dtype"], f"{facts['missing']:,}", size, facts["encoder"] or "unknown")
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(
        [
            f"store     {summary['path']}",
            f"rows      {summary['rows']:,} ({summary['labelled']:,} labelled, {summary['classes']:,} classes)",
            f"columns   {', '.join(summary['columns'])}",
            "",
            *lines,
        ]
    )


def _add_create_options(parser: CommandParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--items", metavar="PLACE", help="table: .parquet, .csv, .tsv, .jsonl (.gz), or a folder")
    source.add_argument("--huggingface", metavar="DIR", help="folder of a Hugging Face data set")
    source.add_argument("--clip-retrieval", metavar="DIR", help="folder of clip-retrieval")
    several: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    parser.add_argument(
        "--modality",
        metavar="NAME=PLACE",
        help="embeddings: FILE.npy, FILE.npz[:ARRAY] or PARQUET:COLUMN; with --huggingface a column",
        **several,
    )
    parser.add_argument("--out", metavar="DIR", required=True, help="folder to write")
    parser.add_argument("--label", metavar="COLUMN", help="class of each item, empty where unknown (default: label)")
    parser.add_argument("--id", metavar="COLUMN", default="id", help="unique name of each item (default: id)")
    parser.add_argument("--row-ids", action="store_true", help="number the rows of a table without ids")
    parser.add_argument("--split", metavar="COLUMN", help="split that each item belongs to (default: split)")
    parser.add_argument(
        "--has",
        metavar="NAME=COLUMN",
        help="which items have a modality (default: has_NAME, else those whose embedding is not all zeros)",
        **several,
    )
    parser.add_argument("--delimiter", metavar="CHAR", help="between the fields of a CSV file (default: by its name)")
    parser.add_argument("--encoding", default="utf-8", help="of a CSV or JSON-lines file (default: utf-8)")
    parser.add_argument("--drop", metavar="COLUMN", help="columns to leave out", **several)
    parser.add_argument(
        "--dtype", choices=DTYPES, help="how to store values (default: as they are; float64 as float32)"
    )
    parser.add_argument("--encoder", metavar="NAME=TEXT", help="what made a modality, for the record", **several)
    parser.add_argument(
        "--rows-per-shard", metavar="N", type=int, default=65536, help="rows in a file (default: 65536)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the store in a folder that has one")
    parser.add_argument("--quiet", action="store_true", help="print nothing and show no progress bar")


def _pairs(option: str, words: Iterable[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition("=")
        if not name or not value:
            raise ConfigError(f"{option}: expected NAME=VALUE, got {word!r}")
        if name in pairs:
            raise ConfigError(f"{option}: {name!r} is there twice")
        pairs[name] = value
    return pairs


def _add_info_options(parser: CommandParser) -> None:
    parser.add_argument("store", metavar="DIR", help="folder of the store")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_verify_options(parser: CommandParser) -> None:
    parser.add_argument("store", metavar="DIR", help="folder of the store")
    parser.add_argument("--quiet", action="store_true", help="show no progress bar")


class _Command(NamedTuple):
    add_options: Callable[[CommandParser], None]
    run: Callable[[SimpleNamespace], None]
    description: str


COMMANDS: Final = {
    "create": _Command(_add_create_options, _create, "Make a store of embeddings that are there already."),
    "info": _Command(_add_info_options, _info, "Say what is in a store."),
    "verify": _Command(
        _add_verify_options, _verify, "Read a whole store; exit with 1 and its first defect if it has one."
    ),
}

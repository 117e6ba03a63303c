"""``estitchup queue``: what to label next."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

from estitchup_pl.cli.parser import CommandParser
from estitchup_pl.labeling import STRATEGIES, Pool, build_queue
from estitchup_pl.labeling.clusters import describe_clusters
from estitchup_pl.labeling.export import FORMATS, check_output, with_items, write_queue
from estitchup_pl.model import EmbeddingClassifier
from estitchup_pl.store import EmbeddingStore

_DESCRIPTION: Final = """\
Choose the unlabelled items of a store that are most worth a label: what the model decides "none" first, then what it
is least sure of; near-copies are asked for once. A name ending in .json is for Label Studio's import.
"""


def main(argv: list[str]) -> int:
    """Run ``estitchup queue`` with the words after it; return the exit status 0.

    Raises:
        ConfigError: For a wrong call.
        DataError: For a store that has nothing to ask for, or a checkpoint that cannot be read.
    """
    call = queue_parser().parse_call(argv)
    check_output(Path(call.out), FORMATS, call.overwrite)
    store = EmbeddingStore.open(call.store)
    model = EmbeddingClassifier.load_from_checkpoint(call.ckpt_path, map_location="cpu")
    pool = Pool.of_store(model, store)
    strategy = STRATEGIES[call.strategy]()
    chosen = build_queue(
        pool,
        model.class_names,
        strategy,
        call.budget,
        similarity=call.similarity,
        balance=call.balance,
        seed=call.seed,
    )
    queue = with_items(chosen, store, call.columns)
    paths = write_queue(Path(call.out), queue, model.class_names, call.images or ())
    kinds = Counter("none" if name == "none" else "known" for name in chosen["predicted"].to_pylist())
    print(f'{len(queue)} of {len(pool):,} unlabelled items: {kinds["none"]} "none", {kinds["known"]} of a known class')
    clusters = set(chosen["cluster"].to_pylist()) - {None}
    if clusters:
        print(f'{len(clusters)} groups of similar items within "none" (column cluster): candidates for new classes')
        shown = next(name for name in (*queue.column_names[1:], "id") if name not in chosen.column_names)
        print("\n".join(f"  group {line}" for line in describe_clusters(queue, shown)))
    print("written:", ", ".join(map(str, paths)))
    return 0


def queue_parser() -> CommandParser:
    """Parser of the command's options."""
    parser = CommandParser(prog="estitchup queue", description=_DESCRIPTION)
    parser.add_argument("--store", metavar="DIR", required=True, help="store whose unlabelled items may be asked for")
    parser.add_argument("--ckpt_path", metavar="FILE", required=True, help="checkpoint of a fit")
    parser.add_argument("--out", metavar="FILE", required=True, help="file to write: .csv, .parquet or .json")
    parser.add_argument("--budget", metavar="N", type=int, default=100, help="items to choose")
    parser.add_argument("--strategy", choices=tuple(STRATEGIES), default="none_first", help="what orders the items")
    parser.add_argument(
        "--similarity", metavar="S", type=float, default=0.98, help="cosine similarity of what counts as a copy"
    )
    parser.add_argument("--balance", action="store_true", help="let the predicted classes take turns")
    parser.add_argument("--columns", metavar="NAME", nargs="+", help="columns of the items to show (default: all)")
    parser.add_argument("--images", metavar="NAME", nargs="+", help="columns that hold addresses of pictures")
    parser.add_argument("--seed", type=int, default=0, help="seed of what a strategy draws")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    return parser

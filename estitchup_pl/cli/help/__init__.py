"""One screen of help for each command, in the text files beside this one; a test holds them against the parsers.

They answer before anything slow is imported. ``--help all`` prints what the parser itself has to say.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from estitchup_pl.cli.configs import shipped_configs

PAGES: Final = {
    "embed": "embed",
    "export": "export",
    "label-errors": "labeling",
    "labels": "labeling",
    "monitor": "monitor",
    "queue": "labeling",
    "report": "report",
    "serve": "serving",
    "simulate": "labeling",
    "store": "store",
    "study": "study",
    "train": "train",
}
"""Page of the documentation on a command; of the others the one on the command line."""

TOPICS = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.txt"))}


def short_help(command: str, words: Sequence[str] = ()) -> str:
    """Help of a command; of the command within it (``store create``) where the words begin with one."""
    topic = TOPICS.get(" ".join([command, *words[:1]]), TOPICS[command])
    configs = textwrap.fill("names for --config: " + ", ".join(shipped_configs(command)), 110)
    text = topic.read_text(encoding="utf-8").rstrip().replace("{configs}", configs)
    return f"{text}\n\nMore: docs/{PAGES.get(command, 'cli')}.md in the repository; `make docs` builds the site."

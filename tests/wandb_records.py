"""Offline runs of Weights & Biases, read back from the file that `wandb sync` would send."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as protocol

BLOCK = 32768
HEADER = 7
"""Bytes before the first block (a magic number and a version), and before each piece of a record."""


@dataclass
class RunOnDisk:
    """What a run has logged.

    Attributes:
        id: Its id.
        config: The whole configuration, as a server would have it.
        history: Each logged step.
        artifacts: Names of the logged artifacts, with the files in each.
        folder: Where its files lie.
    """

    id: str
    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    artifacts: dict[str, dict[str, Path]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    group: str = ""
    config_updates: list[str] = field(default_factory=list)

    def last(self, key: str) -> Any:
        """Value that was logged last under a name."""
        return [step[key] for step in self.history if key in step][-1]

    def table(self, key: str) -> dict[str, Any]:
        """Content of a logged table."""
        (file,) = [files[name] for files in self.artifacts.values() for name in files if name == f"{key}.table.json"]
        content: dict[str, Any] = json.loads(file.read_text())
        return content

    def pictures(self, key: str) -> list[Path]:
        """Files of logged pictures."""
        logged = self.last(key)  # one picture, or a list of them
        return [self.folder / "files" / name for name in logged.get("filenames", [logged.get("path")])]


def offline_runs(folder: Path) -> list[RunOnDisk]:
    """Read all offline runs below a folder, in the order in which they began."""
    files = folder.rglob("offline-run-*/run-*.wandb")
    return [_read(path) for path in sorted(files, key=lambda path: path.stat().st_ctime_ns)]


def _read(path: Path) -> RunOnDisk:
    run = RunOnDisk(path.stem.removeprefix("run-"), path.parent)
    for record in _records(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.name, run.group = record.run.display_name, record.run.run_group
            _update(run, record.run.config.update)
        elif kind == "config":
            _update(run, record.config.update)
        elif kind == "history":
            run.history.append({})
            _put(run.history[-1], record.history.item)
        elif kind == "summary":
            _put(run.summary, record.summary.update)
        elif kind == "artifact":
            entries = record.artifact.manifest.contents
            run.artifacts[record.artifact.name] = {entry.path: Path(entry.local_path) for entry in entries}
    return run


def _update(run: RunOnDisk, items: Any) -> None:
    run.config_updates += [".".join(_keys(item)) for item in items]
    _put(run.config, items)


def _put(values: dict[str, Any], items: Any) -> None:
    """Put items into nested values, by their keys."""
    for item in items:
        *outer, last = _keys(item)
        place = values
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = json.loads(item.value_json)


def _keys(item: Any) -> list[str]:
    return list(item.nested_key) or [item.key]


def _records(content: bytes) -> Iterator[Any]:
    """Records of a log in the format of LevelDB: pieces of at most a block, each with checksum, length and kind."""
    position, pieces = HEADER, b""
    while position + HEADER <= len(content):
        if BLOCK - position % BLOCK < HEADER:  # filled with zeros
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + HEADER])
        position += HEADER
        pieces += content[position : position + length]
        position += length
        if kind in (1, 4):  # whole, or its last piece
            record = protocol.Record()
            record.ParseFromString(pieces)
            yield record
            pieces = b""

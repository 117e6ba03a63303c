"""Whether what lies in a study's folder belongs to the configuration at hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pyarrow as pa

from estitchup_pl.errors import ConfigError
from estitchup_pl.study.config import StudyConfig
from estitchup_pl.study.folder import StudyFolder, slug
from estitchup_pl.study.repairing import is_whole

_FREE: Final = {
    "name",
    "trials",
    "methods",
    "metrics",
    "more_metrics",
    "none_groups",
    "control",
    "keep",
    "stack_size",
    "workers",
    "backend",
    "accelerator",
    "wandb",
}
"""Options that change nothing about a run that is there; methods are compared one by one."""


def check_unchanged(folder: StudyFolder, config: StudyConfig) -> None:
    """Compare a configuration with the one that the runs of a folder were made with.

    Raises:
        ConfigError: If an option that has shaped a run differs.
    """
    if not (folder.path / "study.json").exists():
        return
    old, new = folder.header["config"], config.plain()
    runs = folder.path / "runs"
    if runs.is_dir() and any(runs.iterdir()):
        _refuse(folder, {k: v for k, v in old.items() if k not in _FREE}, {k: new[k] for k in new if k not in _FREE})
    for name, method in old["methods"].items():
        if name in new["methods"] and (runs / slug(name)).exists():
            _refuse(folder, {"methods": {name: method}}, {"methods": {name: new["methods"][name]}})


def write_trials(folder: StudyFolder, tables: Mapping[int, pa.Table]) -> None:
    """Write the rows of each trial.

    Raises:
        ConfigError: If runs that are there were made with other rows.
    """
    for trial, table in tables.items():
        path = folder.path / f"trials/{trial}.parquet"
        if path.exists() and is_whole(path) and not folder.trial(trial).equals(table):
            raise ConfigError(
                f"the rows of trial {trial} are not those of the runs that are in {folder.path}: the store has "
                "changed, or the split does not give the same rows each time. Take another --out"
            )
        folder.write_table(f"trials/{trial}.parquet", table)


def _refuse(folder: StudyFolder, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    for option, before, now in _differences(old, new):
        raise ConfigError(
            f"{option} was {json.dumps(before)} for the runs that are in {folder.path}, and is {json.dumps(now)} now: "
            "their results could not be compared. Take the old value, or another --out"
        )


def _differences(old: Any, new: Any, option: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(name), new.get(name), f"{option}.{name}".lstrip("."))
    elif old != new:
        yield option, old, new

"""The configurations that come with the package, by name: ``--config e_stitchup``, ``--config method/e_stitchup``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from estitchup_pl.errors import ConfigError, did_you_mean

_TRAINING: Final = ("data", "method", "threshold", "decision", "trainer", "logger")
FOLDERS: Final = {
    "fit": _TRAINING,
    "validate": _TRAINING,
    "test": _TRAINING,
    "predict": _TRAINING,
    "embed": ("embed",),
    "study": ("study",),
    "simulate": ("study",),
}
"""Commands that take configurations, and where theirs lie."""

_FOR_OTHERS: Final[dict[str, tuple[str, ...]]] = {
    "sweep.yaml": (),
    "active_learning.yaml": ("simulate",),
    "active_learning_head.yaml": ("simulate",),
}
"""Files beside them that only these commands take; sweeps are W&B's."""


def shipped_configs(command: str) -> dict[str, Path]:
    """Files for a command by their short names (``e_stitchup``); of two alike, both with their folders."""
    package = Path(__file__).parents[1]
    root = package / "configs" if (package / "configs").is_dir() else package.parent / "configs"  # a wheel, a clone
    paths = [path for folder in FOLDERS.get(command, ()) for path in sorted((root / folder).glob("*.yaml"))]
    paths = [path for path in paths if command in _FOR_OTHERS.get(path.name, (command,))]
    stems = [path.stem for path in paths]
    return {path.stem if stems.count(path.stem) == 1 else f"{path.parent.name}/{path.stem}": path for path in paths}


def with_config_files(command: str, words: Sequence[str]) -> list[str]:
    """Words of a call with a path in the place of every name that follows ``--config``.

    Raises:
        ConfigError: If there is neither such a file nor such a name.
    """
    if command not in FOLDERS:
        return list(words)
    found: list[str] = []
    for word in words:
        name = word.removeprefix("--config=")
        if name != word:
            found.append(f"--config={_config_file(command, name)}")
        else:
            found.append(_config_file(command, word) if found and found[-1] == "--config" else word)
    return found


def config_folders(words: Sequence[str]) -> Iterator[str]:
    """Folders of the configuration files of a call, in which users' own modules may lie."""
    for before, word in zip(["", *words], words, strict=False):
        if before == "--config" or word.startswith("--config="):
            yield str(Path(word.removeprefix("--config=")).parent.absolute())


def _config_file(command: str, name: str) -> str:
    if Path(name).is_file():
        return name
    shipped = shipped_configs(command)
    known = shipped | {f"{path.parent.name}/{path.stem}": path for path in shipped.values()}
    short = name.removeprefix("configs/").removesuffix(".yaml")
    if short not in known:
        raise ConfigError(
            f"--config {name}: there is no such file, nor a configuration of this name{did_you_mean(short, known)} "
            f"(for `estitchup {command}` there are: {', '.join(shipped)})"
        )
    return str(known[short])

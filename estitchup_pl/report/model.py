"""The classifier that a study has kept, in words, and the command that uses it."""

from __future__ import annotations

import shlex
from typing import Any, NamedTuple

from estitchup_pl.report.text_table import number, values_text
from estitchup_pl.study.folder import StudyFolder


class KeptModel(NamedTuple):
    """The best classifier of a study.

    Attributes:
        what: What it is, and by what it was chosen.
        command: What to type to predict with it.
    """

    what: str
    command: str


def kept_model(folder: StudyFolder, config: dict[str, Any]) -> KeptModel | None:
    """Describe the classifier that a study has kept; ``None`` where it has kept none.

    Args:
        folder: Folder of the study.
        config: Its configuration in plain values.
    """
    best = folder.read_best()
    if best is None:
        return None
    made_of = f", which is {best['made_of']}" if best["made_of"] != best["method"] else ""
    values = f" ({values_text(best['values'])})" if best["values"] else ""
    what = (
        f"{folder.best_path} is {best['method']}{made_of}{values}, fitted to the training rows of trial "
        f"{best['trial']} and chosen by {best['target']} on the validation rows of that trial's threshold splits "
        f"({number(best['score'])}); no test row took part."
    )
    store, path = shlex.quote(str(config["store"])), shlex.quote(str(folder.best_path))
    return KeptModel(what, f"estitchup predict --ckpt_path {path} --store {store}")

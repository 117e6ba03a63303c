"""What the report says of the classifier that a study has kept."""

from __future__ import annotations

import html
import shlex
import shutil
from pathlib import Path

import pytest
from made_study import HOSTILE

from estitchup_pl.report import StudyTables
from estitchup_pl.report.model import kept_model
from estitchup_pl.study import StudyFolder


def test_page_and_tables_have_the_command_to_copy(page: str, tables: StudyTables, study: StudyFolder) -> None:
    command = f"estitchup predict --ckpt_path {study.best_path} --store 'stores/made up'"
    assert f"<code>{html.escape(command)}</code>".replace("&#x27;", "&#39;") in page
    assert command in tables.preface()
    assert tables.to_json()["model"]["command"] == command
    assert shlex.split(command)[5] == "stores/made up"


def test_it_says_what_the_best_is_and_what_chose_it(page: str, study: StudyFolder) -> None:
    model = kept_model(study, {"store": "digits"})
    assert model is not None
    assert model.what.startswith(
        f"{study.best_path} is Soft {HOSTILE}, which is E-Stitchup (alpha 0.1), fitted to the training rows of trial 0 "
        "and chosen by aupr on the validation rows of that trial's threshold splits (0.9000)"
    )
    assert f"is Soft {html.escape(HOSTILE)}".replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page


@pytest.mark.parametrize("lost", ["best.ckpt", "best.json"])
def test_without_a_classifier_there_is_no_word_of_one(study: StudyFolder, tmp_path: Path, lost: str) -> None:
    copy = StudyFolder(shutil.copytree(study.path, tmp_path / "copy"))
    assert kept_model(copy, {"store": "digits"}) is not None
    (copy.path / lost).unlink()
    assert kept_model(copy, {"store": "digits"}) is None

"""``train``: embed what is not embedded, choose and measure in folds, refit on all rows, and say what to do next."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
import yaml

from estitchup_pl.batch import NONE
from estitchup_pl.data import open_store
from estitchup_pl.errors import ConfigError, DataError, SplitError
from estitchup_pl.functional import FEW_NONE_ROWS
from estitchup_pl.locking import LOCK_NAME, locked_folder
from estitchup_pl.report import write_report
from estitchup_pl.stopping import keeping
from estitchup_pl.store.files import TEMPORARY_SUFFIX, atomic_path
from estitchup_pl.store.labels import StoreLabels
from estitchup_pl.study import Refit, StudyConfig, StudyFolder, refit, run_study
from estitchup_pl.study.stage import Reporter, silent
from estitchup_pl.training.budget import plan_for
from estitchup_pl.training.catalogue import Catalogue
from estitchup_pl.training.methods import CHOSEN, FEWEST_CLASSES, ROWS_FOR_LDA, train_study
from estitchup_pl.wording import counted

MODEL: Final = "model.ckpt"
REPORT: Final = "report.html"
_FILES: Final = {MODEL, REPORT, "study.yaml", "embed.yaml", "store", "study", "refit", LOCK_NAME}

FIGURES: Final = {
    "aupr": "AUPR with none, weighted by class",
    "accuracy_top1_id": "accuracy on known classes, everything accepted",
    "coverage/intersection": "share that is accepted",
    "accuracy_accepted/intersection": "accuracy of what is accepted",
    "accuracy_none/intersection": 'share of "none" that is rejected',
    "none_auroc": 'AUROC of "none" against known',
    "ece_id": "calibration error on known classes",
}
"""Metrics of the study that a summary shows, and what they are."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    """What :func:`train` has made.

    Attributes:
        refitted: The classifier, and the method that it is of.
        model: Its checkpoint.
        store: The store that it was trained on.
        report: The report of the study: a page, or tables where the extra ``report`` is not installed.
        figures: Mean over the folds of what the choice has reached on rows that it had not seen, by metric.
        classes: Classes that the model knows.
        unlabelled: Rows without a label, which the model can predict.
        remarks: What was left out, and what to bear in mind.
    """

    refitted: Refit
    model: Path
    store: str
    report: Path
    figures: Mapping[str, float]
    classes: int
    unlabelled: int
    remarks: Sequence[str]

    def __str__(self) -> str:
        made = self.refitted
        values = "".join(f", {name} {value}" for name, value in made.values.items())
        known = [(text, self.figures[name]) for name, text in FIGURES.items() if name in self.figures]
        decision, classes = made.model.decision, counted(self.classes, "class", "classes")
        return "\n".join(
            [
                f"chosen on all {made.rows:,} labelled rows of {classes}: {made.made_of}{values}",
                f"threshold {decision.threshold:.3f} {decision.basis or ''}",
                "the same choice in each fold, on rows and classes that it had not seen (mean over folds):",
                *(f"  {text:<48}{value:7.3f}" for text, value in known),
                *(f"note: {remark}" for remark in self.remarks),
                f"model:  {self.model}",
                f"report: {self.report}",
                "next:",
                *(f"  {command}" for command in self.commands()),
            ]
        )

    def commands(self) -> list[str]:
        """Commands that use the model."""
        predict = f"estitchup predict --ckpt_path {self.model}"
        if Path(self.store).parent == self.model.parent:  # which this command has embedded
            commands = [f"{predict} --items new.csv --out decisions.csv"]
        else:
            commands = [f"{predict} --store {self.store}{' --rows unlabelled' * bool(self.unlabelled)}"]
        if self.unlabelled:
            commands.append(f"estitchup queue --store {self.store} --ckpt_path {self.model} --out queue.csv")
        return [*commands, f"estitchup export --ckpt_path {self.model} --out {self.model.with_suffix('.onnx')}"]


def train(
    items: str | Path | Catalogue | None = None,
    *,
    out: str | Path,
    store: str | Path | None = None,
    modalities: Sequence[str] | None = None,
    budget: str = "standard",
    seed: int = 0,
    accelerator: str = "auto",
    workers: int | str = "auto",
    report: Reporter = silent,
    say: Say = lambda text: None,
    **columns: Any,
) -> Trained:
    """Make a model of a catalogue: the best that a study of some methods finds, refitted on all labelled rows.

    What is not embedded yet is embedded. The labelled rows are divided into folds; in each, some methods are fitted on
    the other folds without a fifth of the classes, one of them is chosen by validation rows alone, and tested on the
    fold, in which the rows of these classes are "none". The figures are the mean over folds. The same choice is then
    made once more on all labelled rows, and fitted to them.

    Interrupted, the same call goes on where it stopped.

    Args:
        items: Table of items, see :class:`Catalogue`; its columns are given beside it.
        out: Folder of the result: ``model.ckpt``, ``report.html``, ``study.yaml`` and ``embed.yaml``, which do the same
            step by step, and what can be resumed.
        store: Folder of a store, or ``"digits"``, in the place of a table.
        modalities: Modalities of the store to use; all if not given.
        budget: ``quick``, ``standard``, ``thorough``, or an amount, ``"60 fits"`` or ``"30 min"``.
        seed: Seed of all fits.
        accelerator: As for :class:`lightning.pytorch.Trainer`.
        workers: Processes that share the fits.
        report: Told of the progress of fits.
        say: Told in sentences what is done.
        columns: Options of :class:`Catalogue`: ``label``, ``text``, ``image``, ``root`` and so on.

    Raises:
        ConfigError: For a wrong call, or a folder that holds something else.
        DataError: For a catalogue or store that cannot be used, or too few labelled rows or classes.
        DivergedError: If a fit of what was chosen has diverged.
        WriteError: If the folder cannot be written to, or another command is writing there.

    Example:
        >>> from estitchup_pl import train
        >>> made = train("products.csv", label="category", text=["name"], out="model")  # doctest: +SKIP
        >>> print(made)  # doctest: +SKIP
    """
    out, catalogue = Path(out), _catalogue(items, store, columns)
    _refuse_foreign_folder(out)
    plan_for(budget, 1, 1, 1)  # refused before anything is embedded
    kept = f"what is done is kept in {out}; the same command goes on"
    with locked_folder(out), keeping(lambda: kept):
        if catalogue is not None:
            say(f"embedding {catalogue.items}")
            say(catalogue.embed(out / "store", accelerator))
            _write_yaml(out / "embed.yaml", catalogue.recipe(out / "store"))
        place = str(store or out / "store")
        labels, width, remarks = _look_at(place, modalities)
        several = _classes(labels, 2)
        plan = plan_for(budget, len(labels.labelled), width, several)
        options = {"seed": seed, "accelerator": accelerator, "workers": workers}
        lda = 2 * _classes(labels, ROWS_FOR_LDA) >= several
        config = train_study(place, plan, len(labels.labelled), several, lda, modalities, **options)
        say(f"{plan.folds} folds, {plan.fits} fits of networks of {config.epochs} epochs, and linear heads")
        _write_yaml(out / "study.yaml", _without_defaults(config.plain()))
        folder = _study(config, StudyFolder(out / "study"), report)
        made = refit(config, StudyFolder(out / "refit"), CHOSEN, out / MODEL, report=report)
        page = _report(folder, out, catalogue.root if catalogue else None)
    basis = made.model.decision.basis
    if basis is not None and basis.none_rows < FEW_NONE_ROWS:
        rows = counted(basis.none_rows, '"none" row')
        remarks.append(f"the threshold rests on {rows} only: label more rows")
    if not lda:
        remarks.append(f"LDA was left out: most classes have fewer than {ROWS_FOR_LDA} rows")
    classes = len(made.model.class_names)
    return Trained(made, out / MODEL, place, page, _figures(folder), classes, len(labels.unlabelled), remarks)


def _catalogue(
    items: str | Path | Catalogue | None, store: str | Path | None, columns: Mapping[str, Any]
) -> Catalogue | None:
    if (items is None) == (store is None):
        raise ConfigError("expected a table of items, or else a store (--store)")
    if items is None:
        if columns:
            raise ConfigError(f"a store has its labels and modalities already: take out {', '.join(columns)}")
        return None
    if isinstance(items, Catalogue):
        return items
    if "label" not in columns:
        raise ConfigError("label: expected the column with the class of each item (--label)")
    return Catalogue(str(items), **columns)


def _refuse_foreign_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ConfigError(f"out: expected a folder, {out} is a file")
    there = {path.name.removesuffix(TEMPORARY_SUFFIX) for path in out.iterdir()} if out.exists() else set()
    strangers = sorted(there - _FILES)
    if strangers:
        raise ConfigError(f"out: {out} holds {strangers[0]}, which this command did not write: choose another folder")


def _look_at(place: str, modalities: Sequence[str] | None) -> tuple[StoreLabels, int, list[str]]:
    """Labels of a store, the width of its modalities, and remarks on rows of which less can be said.

    Raises:
        DataError: If there are too few classes.
    """
    opened = open_store(place)
    labels = StoreLabels.read(opened)
    single, several = _classes(labels, 1) - _classes(labels, 2), _classes(labels, 2)
    if several < FEWEST_CLASSES:
        raise DataError(
            f"{place}: {counted(several, 'class', 'classes')} with two labelled rows or more, expected at least "
            f'{FEWEST_CLASSES}: classes are left out to learn what "none" looks like, and two must be told apart; '
            "label more rows, or train one method with `estitchup fit`"
        )
    remarks = []
    if single:
        classes = counted(single, "class", "classes")
        remarks.append(f"{classes} with a single row: learnt by the model, and no figure speaks of that")
    if len(labels.unlabelled):
        remarks.append(f"{counted(len(labels.unlabelled), 'row')} without a label took no part")
    names = modalities or list(opened.modalities)
    return labels, sum(opened.modalities[name].dim for name in names if name in opened.modalities), remarks


def _classes(labels: StoreLabels, least: int) -> int:
    """Number of classes with at least so many rows."""
    codes = labels.codes[labels.codes != NONE]
    return int((np.unique(codes, return_counts=True)[1] >= least).sum())


def _study(config: StudyConfig, folder: StudyFolder, report: Reporter) -> StudyFolder:
    try:
        return run_study(config, folder, report)
    except SplitError as error:
        raise SplitError(f"too few labelled rows to choose and measure on: {error}") from error


def _report(folder: StudyFolder, out: Path, root: str | None) -> Path:
    written = write_report(folder, root or ".")
    if written.html is None:
        return written.tables_markdown
    with atomic_path(out / REPORT) as temporary:
        shutil.copyfile(written.html, temporary)
    return out / REPORT


def _figures(folder: StudyFolder) -> dict[str, float]:
    """Mean over folds of what the choice has reached; folds without "none" rows say nothing of it."""
    table = folder.results()
    own = table.filter(pc.equal(table["method"], CHOSEN))
    found = {}
    for name in FIGURES:
        values = own.filter(pc.equal(own["metric"], name))["value"].to_pylist()
        finite = [value for value in values if math.isfinite(value)]
        if finite:
            found[name] = float(np.mean(finite))
    return found


def _without_defaults(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a study as its file says them."""
    return {name: value for name, value in options.items() if value not in (None, {}, [])}


def _write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True), encoding="utf-8")

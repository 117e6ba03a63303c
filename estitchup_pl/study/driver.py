"""A study from beginning to end."""

from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_warn

from estitchup_pl.study.config import StudyConfig
from estitchup_pl.study.evaluation import evaluate
from estitchup_pl.study.folder import StudyFolder
from estitchup_pl.study.methods import check_methods
from estitchup_pl.study.resuming import check_unchanged
from estitchup_pl.study.stages import find_thresholds, fit_finally, select
from estitchup_pl.study.state import Reporter, StudyState, silent


def run_study(config: StudyConfig, folder: StudyFolder, report: Reporter = silent) -> StudyFolder:
    """Run a study, or what is missing of it, and compute its results.

    Args:
        config: The study.
        folder: Where it is, or is to be.
        report: Told of the progress.

    Returns:
        The folder, complete.

    Raises:
        ConfigError: If the configuration cannot work, or differs from that of the runs in the folder.
        StoreError: If the store cannot be opened.
        SplitError: If its rows cannot be divided as asked.
    """
    check_methods(config)
    check_unchanged(folder, config)
    study = StudyState(config, folder, report)
    study.prepare()
    select(study)
    find_thresholds(study)
    fit_finally(study)
    folder.write_table("results.parquet", evaluate(folder))
    lost = [f"{method}, trial {trial}" for method, trial in _runs(config) if folder.record(method, trial).diverged]
    if lost:
        rank_zero_warn(f"{len(lost)} runs have diverged and are left out of the results: {'; '.join(lost)}")
    return folder


def _runs(config: StudyConfig) -> list[tuple[str, int]]:
    return [(method, trial) for method in config.methods for trial in range(config.trials)]

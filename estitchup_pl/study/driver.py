"""A study from beginning to end."""

from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_warn

from estitchup_pl.locking import locked_folder
from estitchup_pl.stopping import keeping
from estitchup_pl.study.config import StudyConfig
from estitchup_pl.study.evaluation import evaluate
from estitchup_pl.study.final import FinalFits
from estitchup_pl.study.folder import StudyFolder
from estitchup_pl.study.keeping import KeptModels
from estitchup_pl.study.repairing import remove_damaged
from estitchup_pl.study.resuming import check_unchanged, write_trials
from estitchup_pl.study.selection import Selection
from estitchup_pl.study.stage import Reporter, Stage, silent
from estitchup_pl.study.study import Study
from estitchup_pl.study.thresholds import Thresholds
from estitchup_pl.study.tracking import check_wandb
from estitchup_pl.study.workers import Crew


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
        WriteError: If the folder cannot be written to, or another command is writing there.
    """
    kept = f"every fit that had ended is kept in {folder.path}; the same command goes on"
    with locked_folder(folder.path), keeping(lambda: kept):
        return _complete(config, folder, report)


def _complete(config: StudyConfig, folder: StudyFolder, report: Reporter) -> StudyFolder:
    check_wandb(config.wandb)
    check_unchanged(folder, config)
    study = Study(config, folder)
    study.check()
    remove_damaged(folder)
    selection, thresholds, final, trials = Selection(), Thresholds(), FinalFits(), study.trials
    write_trials(
        folder,
        {
            trial: trials.table(
                trials.division(final, trial),
                [trials.division(thresholds, trial, repeat) for repeat in range(config.repeats)],
            )
            for trial in range(config.trials)
        },
    )
    folder.write_header(study.header())
    with Crew(config) as crew:
        for stage in (selection, thresholds):
            run_stage(stage, study, report, crew)
        kept = KeptModels(study)
        run_stage(FinalFits(kept.fits()), study, report, crew)
        while not kept.write():
            run_stage(FinalFits(kept.fits()), study, report, crew)
    folder.write_table("results.parquet", evaluate(folder, study.metrics))
    runs = [(name, trial) for name in config.methods for trial in range(config.trials)]
    lost = [f"{name}, trial {trial}" for name, trial in runs if folder.record(name, trial).diverged]
    if lost:
        rank_zero_warn(f"{len(lost)} runs have diverged and are left out of the results: {'; '.join(lost)}")
    return folder


def run_stage(stage: Stage, study: Study, report: Reporter, crew: Crew) -> None:
    """Run a stage of a study, or what is missing of it.

    Args:
        stage: The stage.
        study: The study.
        report: Told of the progress.
        crew: The processes that fit.
    """
    if jobs := list(stage.jobs(study)):
        tick = report(stage, len(jobs), stage.epochs(study.config))
        crew.fit(study, stage, jobs, tick)
    stage.finish(study)

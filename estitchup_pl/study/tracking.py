"""A study on Weights & Biases: one run for each method and trial, grouped, and one for the whole."""

from __future__ import annotations

from typing import Any

from estitchup_pl.optional import require
from estitchup_pl.study.building import build
from estitchup_pl.study.config import StudyConfig, WandbConfig
from estitchup_pl.study.derived import DerivedMethod
from estitchup_pl.study.folder import StudyFolder
from estitchup_pl.study.methods import Method


def check_wandb(config: WandbConfig) -> None:
    """Check that what is asked for is installed, before hours are spent.

    Raises:
        ConfigError: If it is not.
    """
    if config.mode != "disabled":
        require("wandb", "wandb", "wandb.mode")


def track(config: StudyConfig, folder: StudyFolder) -> None:
    """Report a finished study and what its report has drawn; runs that were reported before are left out.

    Args:
        config: The study.
        folder: Its folder, with results, tables and figures.
    """
    if config.wandb.mode == "disabled":
        return
    for method in config.methods:
        for trial in range(config.trials):
            if folder.read_note(method, trial, "wandb") is None:
                _track_run(config, folder, method, trial)
    _track_summary(config, folder)


def _track_run(config: StudyConfig, folder: StudyFolder, method: str, trial: int) -> None:
    record = folder.record(method, trial)
    details = run_details(config, method) | {
        "trial": trial,
        "chosen": record.chosen,
        "parameters": record.parameters,
        "classes": record.class_names,
        "train_rows": record.train_rows,
    }
    run = _begin(config, folder, f"{method}, trial {trial}", details)
    curve = folder.curve(method, trial)
    for point in curve.to_pylist() if curve is not None else ():
        run.log(point, step=point["epoch"])
    run.summary.update({"diverged": record.diverged, **_metrics(folder, method, trial)})
    run.finish()
    folder.write_note(method, trial, "wandb", {"id": run.id})


def run_details(config: StudyConfig, method: str) -> dict[str, Any]:
    """What the runs of a method are: its own description, that of each method it is made of, and the study's options.

    Args:
        config: The study.
        method: Name of the method.

    Example:
        >>> ensemble = {"class_path": "Ensemble", "init_args": {"base": "Control", "size": 3}}
        >>> config = StudyConfig("digits", methods={"Control": {}, "Three": ensemble})
        >>> details = run_details(config, "Three")
        >>> details["configuration"]["init_args"], list(details["made_of"])
        ({'base': 'Control', 'size': 3}, ['Control'])
    """
    made = build(Method, config.methods[method], f"methods.{method}")
    members = [member.method for member in made.members] if isinstance(made, DerivedMethod) else []
    options = config.plain()
    methods, _ = options.pop("methods"), options.pop("more_methods")
    return {
        "method": method,
        "configuration": methods[method],
        "made_of": {name: methods[name] for name in dict.fromkeys(members)},
        "study": options,
    }


def _track_summary(config: StudyConfig, folder: StudyFolder) -> None:
    import wandb

    run = _begin(config, folder, "summary", config.plain())
    results = folder.results()
    rows = [list(row.values()) for row in results.to_pylist()]
    run.log({"results": wandb.Table(columns=results.column_names, data=rows)})
    for path in sorted((folder.path / "figures").glob("*.png")):
        run.log({f"figures/{path.stem}": wandb.Image(str(path))})
    report = wandb.Artifact(f"study-{run.id}", type="study")
    for name in ("results.parquet", "tables.md", "tables.json", "report.html"):
        if (folder.path / name).exists():
            report.add_file(str(folder.path / name))
    run.log_artifact(report)
    run.finish()


def _begin(config: StudyConfig, folder: StudyFolder, name: str, details: dict[str, Any]) -> Any:
    import wandb

    return wandb.init(
        project=config.wandb.project,
        mode=config.wandb.mode,
        group=config.name,
        name=name,
        config=details,
        dir=str(folder.path),
        settings=wandb.Settings(silent=True),
    )


def _metrics(folder: StudyFolder, method: str, trial: int) -> dict[str, float]:
    rows = folder.results().to_pylist()
    return {row["metric"]: row["value"] for row in rows if (row["method"], row["trial"]) == (method, trial)}

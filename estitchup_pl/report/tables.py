"""The tables of a study as a page of text, on a console and as numbers."""

from __future__ import annotations

import json

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from estitchup_pl.report.comparison import Comparison
from estitchup_pl.report.runs import StudyRuns, read_study
from estitchup_pl.report.sections import all_tables
from estitchup_pl.report.significance import paired_intervals
from estitchup_pl.report.text_table import TextTable, plain
from estitchup_pl.study.folder import StudyFolder


class StudyTables(Comparison):
    """Tables of a study; printable with rich."""

    def tables(self) -> list[TextTable]:
        """All tables as text, the paper's first."""
        return all_tables(self)

    def markdown(self) -> str:
        """Page with all tables; names are text there, whatever they are."""
        parts = [f"# {plain(self.name)}\n", *(f"{plain(line)}\n" for line in self.preface())]
        return "\n".join([*parts, *(table.markdown() for table in self.tables())])

    def json(self) -> str:
        """Text of :meth:`to_json`."""
        return json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n"

    def summary(self) -> str:
        """One sentence on what was compared."""
        counts = {"method": len(self.methods), "trial": len(self.trials)}
        methods, trials = (f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.items())
        return f"{methods}, {trials}; all compared with {self.control}."

    def preface(self) -> list[str]:
        """The summary, which methods are left out, and which classifier is kept."""
        left_out = [f"Left out: {method}, {why}." for method, why in self.left_out.items()]
        return [self.summary(), *left_out, *self.remarks(), *(self.model or ())]

    def remarks(self) -> list[str]:
        """What to bear in mind with these numbers."""
        counts = {method: self.still_improving(method) for method in self.methods}
        late = [method for method, (improving, runs) in counts.items() if runs and improving == runs]
        if not late:
            return []
        return [
            f"Every run of {', '.join(late)} was still improving in the last quarter of its {self.epochs} epochs: with "
            "more epochs it may be better, and others may be ahead (Figure 5)."
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Print all tables."""
        yield Text(f"{self.name}: " + "\n".join(self.preface()))
        for table in self.tables():
            yield ""
            yield table.console()


def study_tables(folder: StudyFolder) -> StudyTables:
    """Make the tables of a study.

    Raises:
        DataError: If the folder is no study's, or its control or its results are not complete.
    """
    return tables_of(read_study(folder))


def tables_of(study: StudyRuns) -> StudyTables:
    """Make the tables of runs that are read already."""
    return StudyTables(
        str(study.header["name"]),
        study.control,
        study.methods,
        study.trials,
        study.left_out,
        bool(study.header.get("paper")),
        study.values,
        paired_intervals(study),
        {method: [run.hyperparameters for run in study.of(method)] for method in study.methods},
        study.header.get("metrics", {}),
        {method: [run.record.threshold_intervals for run in study.of(method)] for method in study.methods},
        {method: trials for method in study.methods if all(trials := [run.choice for run in study.of(method)])},
        study.model,
        int(study.header.get("epochs", 0)),
    )

"""`tuner show`: one study's trials, best one and importance."""

from statistics import fmean, stdev
from typing import TYPE_CHECKING

import typer

from tuner.cli.options import AsJson, StudyName
from tuner.cli.tables import duration, number, params, print_table, score
from tuner.errors import RefusedError

if TYPE_CHECKING:
    from tuner.study.study import Study
    from tuner.study.summary import StudySummary


def show(study: StudyName, as_json: AsJson = False) -> None:
    """Show a study: its trials, the best one, and which parameters matter."""
    from tuner.study.study import load_study

    with load_study(study) as opened:
        summary = opened.summary()
        if as_json:
            fields = {"study", "counts", "trials", "best"}
            typer.echo(summary.model_dump_json(include=fields, indent=2))
            return
        print_summary(summary)
        if opened.spec.seeds > 1:
            _print_points(summary)
        _print_importance(opened)
        typer.echo(f"looks at the test set: {len(opened.looks.all())}")


def print_summary(summary: "StudySummary") -> None:
    """Prints the trials and the best one."""
    searched = sorted({name for trial in summary.trials for name in trial.params})
    rows = [
        (
            str(trial.number),
            trial.state,
            *(number(trial.params.get(name)) for name in searched),
            score(trial.value),
            str(trial.epochs),
            duration(trial.duration_s),
            trial.run_id or "-",
        )
        for trial in summary.trials
    ]
    columns = ["trial", "state", *searched, summary.metric, "epochs", "time", "MLflow run"]
    print_table(columns, rows)
    counts = ", ".join(f"{count} {state}" for state, count in summary.counts.items() if count)
    typer.echo(f"{summary.study}: {counts}")
    if summary.best is not None:
        best = summary.best
        typer.echo(
            f"best: trial {best.number}, {summary.metric} {score(best.value)}, "
            f"{params(best.params) or 'the fixed parameters'}"
        )


def check_some_completed(summary: "StudySummary") -> None:
    """Raises `RefusedError` for a study whose every trial failed."""
    if summary.all_failed:
        raise RefusedError(
            f"study {summary.study!r}: every trial failed; the runs' error.txt in "
            "MLflow tells why, and the lines above"
        )


def _print_points(summary: "StudySummary") -> None:
    """The mean and spread of each point over its seeds."""
    points: dict[str, list[float]] = {}
    for trial in summary.trials:
        if trial.value is not None and trial.state == "completed":
            points.setdefault(params(trial.params) or "the fixed parameters", []).append(
                trial.value
            )
    rows = [
        (
            point,
            str(len(values)),
            score(fmean(values)),
            score(stdev(values)) if len(values) > 1 else "-",
        )
        for point, values in points.items()
    ]
    print_table(["point", "seeds", f"mean {summary.metric}", "standard deviation"], rows)


def _print_importance(opened: "Study") -> None:
    importance = opened.importance()
    if importance:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in importance.items())
        typer.echo(f"importance: {shares}")

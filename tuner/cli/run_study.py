"""`tuner run-study`: runs a study file, or goes on with it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.typed import program, same_command
from tuner.errors import ExitCode

if TYPE_CHECKING:
    from tuner.study.study_file import StudyFile
    from tuner.study.summary import StudySummary


def run_study(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The study file, YAML.")],
    trials: Annotated[int | None, typer.Option(help="How many trials in all.")] = None,
    epochs: Annotated[int | None, typer.Option(help="How many epochs a trial.")] = None,
    workers: Annotated[str | None, typer.Option(help="How many trainers at once, or auto.")] = None,
    name: Annotated[str | None, typer.Option(help="Run it under another name.")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Leave it to tuner worker processes, and return.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override any key, such as epochs=3."),
    ] = None,
) -> None:
    """Run a study, or go on where it stopped."""
    from tuner.spec.reader import read_study

    stated = {"trials": trials, "epochs": epochs, "workers": workers, "name": name}
    overrides = [
        f"{key}={value if key == 'workers' else json.dumps(value)}"
        for key, value in stated.items()
        if value is not None
    ]
    spec = read_study(file, [*overrides, *(settings or [])])

    from tuner.cli.show import check_some_completed, print_summary
    from tuner.study.study_file import StudyFile  # once the file is known to be a study

    study_file = StudyFile(spec, str(file), (file.parent,))
    if detach:
        _submit(study_file)
        return
    summary = _run(study_file)
    print_summary(summary)
    check_some_completed(summary)
    _say_what_is_next(summary)


def _submit(file: "StudyFile") -> None:
    from tuner.home import Home
    from tuner.study.submit import submit_study

    name = file.spec.name
    new = submit_study(file, Home.from_environment())
    what = "is submitted; a tuner worker begins it" if new else "goes on with the next tuner worker"
    typer.echo(f"{name} {what}; follow it with: {program()} watch {name}", err=True)


def _run(file: "StudyFile") -> "StudySummary":
    from rich.console import Console

    from tuner.cli.progress import view
    from tuner.cli.signals import StopSignals
    from tuner.home import Home
    from tuner.study.run import run_study as run

    with StopSignals() as signals, view(Console(stderr=True)) as shown:
        summary = run(file, Home.from_environment(), notify=shown.show, stopped=signals.received)
    if signals.exit_code is not None:
        typer.echo(f"stopped; go on with: {same_command()}", err=True)
        raise typer.Exit(signals.exit_code)
    return summary


def _say_what_is_next(summary: "StudySummary") -> None:
    if not summary.done:
        typer.echo(f"{summary.study} is not finished; go on with: {same_command()}", err=True)
        raise typer.Exit(ExitCode.OK)
    typer.echo("next:", err=True)
    promote = f"{program()} promote best {summary.study}"
    typer.echo(f"  {program() + ' ui':<{len(promote)}}   compare the trials in MLflow", err=True)
    typer.echo(f"  {promote}   test the best one and register it", err=True)

"""Runs a study in the terminal: the live view, signals, and what is said at its end."""

from typing import TYPE_CHECKING

import typer

from tuner.cli.terminal.shell import same_command
from tuner.errors import ExitCode

if TYPE_CHECKING:
    from tuner.study.study_file import StudyFile
    from tuner.study.summary import StudySummary
    from tuner.workers.cluster import Cluster


def run_file(
    file: "StudyFile", cluster: "Cluster | None" = None, *, accept_new_code: bool = False
) -> "StudySummary":
    """Runs a study with the live view; ends the process when a signal has stopped it."""
    from rich.console import Console

    from tuner.cli.terminal.live_view import view
    from tuner.cli.terminal.signals import StopSignals
    from tuner.driver.run_study import run_study
    from tuner.home import Home

    with StopSignals() as signals, view(Console(stderr=True)) as shown:
        summary = run_study(
            file,
            Home.from_environment(),
            cluster=cluster,
            accept_new_code=accept_new_code,
            notify=shown.show,
            stopped=signals.received,
        )
    if signals.exit_code is not None:
        typer.echo(f"stopped; resume with: {same_command()}", err=True)
        raise typer.Exit(signals.exit_code)
    return summary


def check_finished(summary: "StudySummary") -> None:
    """Ends the command, with status 0, if the study has trials to go, and says how it resumes."""
    if not summary.done:
        typer.echo(f"{summary.study} is not finished; resume with: {same_command()}", err=True)
        raise typer.Exit(ExitCode.OK)

"""`tuner worker`: runs trials of the studies in the database."""

import os
from typing import Annotated

import typer

from tuner.cli.terminal.options import Workers, workers_of


def worker(
    studies: Annotated[
        list[str] | None,
        typer.Argument(metavar="[STUDY]...", help="Names of studies; all by default."),
    ] = None,
    workers: Workers = "auto",
    until_done: Annotated[
        bool, typer.Option("--until-done", help="End when every study has ended.")
    ] = False,
) -> None:
    """Run trials of all studies that have free ones, until told to stop."""
    trainers = workers_of(workers)

    from rich.console import Console

    from tuner.cli.terminal.live_view import PlainView
    from tuner.cli.terminal.signals import StopSignals
    from tuner.driver.worker import Worker
    from tuner.home import Home

    if os.environ.get("TUNER_STORAGE_URL") and not os.environ.get("MLFLOW_TRACKING_URI"):
        home = Home.from_environment().root
        typer.echo(
            f"MLFLOW_TRACKING_URI is not set: the MLflow runs of this worker are stored in {home}, "
            "where other machines cannot see them",
            err=True,
        )
    with StopSignals() as signals, PlainView(Console(stderr=True)) as shown:
        Worker(
            Home.from_environment(),
            only=frozenset(studies or ()),
            workers=trainers or "auto",
            notify=shown.show,
            stop=signals,
        ).serve(until_done=until_done)

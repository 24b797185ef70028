"""`tuner worker`: serves the studies of the database."""

import os
from typing import Annotated

import typer

from tuner.errors import UsageError


def worker(
    studies: Annotated[
        list[str] | None, typer.Argument(metavar="[STUDY]...", help="Which; all if left out.")
    ] = None,
    workers: Annotated[str, typer.Option(help="How many trainers here, or auto.")] = "auto",
    until_done: Annotated[
        bool, typer.Option("--until-done", help="End once every study has ended.")
    ] = False,
) -> None:
    """Take trials of any study that has one to give, until told to stop."""
    if workers != "auto" and not (workers.isdecimal() and int(workers)):
        raise UsageError(f"--workers: must be auto or a whole number >= 1, got {workers!r}")

    from rich.console import Console

    from tuner.cli.terminal.live_view import PlainView
    from tuner.cli.terminal.signals import StopSignals
    from tuner.driver.worker import Worker
    from tuner.home import Home

    if os.environ.get("TUNER_STORAGE_URL") and not os.environ.get("MLFLOW_TRACKING_URI"):
        home = Home.from_environment().root
        typer.echo(
            f"MLFLOW_TRACKING_URI is not set: the runs of this worker go to {home}, where no other "
            "machine finds them",
            err=True,
        )
    with StopSignals() as signals, PlainView(Console(stderr=True)) as shown:
        Worker(
            Home.from_environment(),
            only=frozenset(studies or ()),
            workers="auto" if workers == "auto" else int(workers),
            notify=shown.show,
            stop=signals,
        ).serve(until_done=until_done)

"""`tuner ui`: opens MLflow's user interface."""

import signal
from typing import Annotated

import typer

from tuner.errors import ExitCode, UnavailableError


def ui(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 for any free one.")
    ] = 5000,
) -> None:
    """Open MLflow for the local runs; print the server's address if MLFLOW_TRACKING_URI is set."""
    from tuner.home import Home
    from tuner.tracking.mlflow.user_interface import LocalInterface, runs_page
    from tuner.tracking.settings import TrackingSettings

    home = Home.from_environment()
    tracking = TrackingSettings.from_environment(home.root)
    if tracking.server_url:
        typer.echo(runs_page(tracking.shown_uri.rstrip("/"), tracking.experiment))
        return
    home.create()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        with LocalInterface(tracking, port) as interface:
            typer.echo("starting MLflow", err=True)
            interface.until_ready()
            typer.echo(runs_page(interface.address, tracking.experiment))
            typer.echo("Ctrl-C ends it", err=True)
            status = interface.until_ended()
        raise UnavailableError(f"MLflow's server ended unexpectedly with exit status {status}")
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.OK) from None


def _terminate(_number: int, _frame: object) -> None:
    raise SystemExit(ExitCode.TERMINATED)

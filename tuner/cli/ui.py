"""`tuner ui`: MLflow's own user interface on the runs of this project."""

import os
import signal
import socket
import subprocess
import sys
from typing import Annotated

import typer

from tuner.errors import ExitCode, UnavailableError

HOST = "127.0.0.1"


def ui(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 5000,
) -> None:
    """Open MLflow on the local runs; with a server in MLFLOW_TRACKING_URI, say where it is."""
    from tuner.home import Home
    from tuner.tracking.settings import TrackingSettings

    home = Home.from_environment()
    tracking = TrackingSettings.from_environment(home.root)
    if tracking.server_url:
        typer.echo(tracking.shown_uri)
        return
    home.create()
    chosen = _free_port(port)
    typer.echo(f"MLflow on http://{HOST}:{chosen} (Ctrl-C ends it)")
    raise typer.Exit(_serve(tracking.uri, tracking.artifact_root, chosen))


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UnavailableError(
                f"port {port} of {HOST} is taken; choose another: tuner ui --port 5001"
            ) from error
        return int(probe.getsockname()[1])


def _serve(uri: str, artifacts: str, port: int) -> int:
    """Runs the server until it ends or a signal comes; all of its processes end with it."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--default-artifact-root", artifacts, "--host", HOST, "--port", str(port)]
    command += ["--workers", "1"]
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    server = subprocess.Popen(command, env=environment, process_group=0)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return server.wait()
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt

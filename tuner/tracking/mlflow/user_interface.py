"""MLflow's user interface: a server on the local store, and the address of tuner's runs."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Self

from tuner.errors import UnavailableError
from tuner.tracking.settings import TrackingSettings

HOST = "127.0.0.1"
_START_S = 60.0
_POLL_S = 0.2


class LocalInterface:
    """A server process on this machine, from `with` to the end of the block."""

    def __init__(self, settings: TrackingSettings, port: int) -> None:
        """Reserves nothing yet, but checks the port; 0 takes any free one.

        Raises:
            UnavailableError: the port is taken.
        """
        self._settings = settings
        self._port = _free_port(port)

    @property
    def address(self) -> str:
        """The server's address."""
        return f"http://{HOST}:{self._port}"

    def __enter__(self) -> Self:
        command = [sys.executable, "-P", "-m", "mlflow", "server", "--host", HOST]
        command += ["--default-artifact-root", Path(self._settings.artifact_root).as_uri()]
        command += ["--port", str(self._port), "--workers", "1"]
        command += ["--uvicorn-opts", "--log-level warning"]
        environment = {
            **os.environ,
            "MLFLOW_BACKEND_STORE_URI": self._settings.uri,  # it may hold a password
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "PYTHONWARNINGS": "ignore",
        }
        self._server = subprocess.Popen(command, env=environment, process_group=0)
        return self

    def __exit__(self, *raised: object) -> None:
        if self._server.poll() is None:
            os.killpg(self._server.pid, signal.SIGTERM)
        self._server.wait()

    def until_ready(self) -> None:
        """Waits until the server answers.

        Raises:
            UnavailableError: the server ended, or did not answer within a minute.
        """
        deadline = time.monotonic() + _START_S
        while not _answers(f"{self.address}/health"):
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise UnavailableError(
                    f"MLflow's server on {self.address} did not start; its own messages are above"
                )
            time.sleep(_POLL_S)

    def until_ended(self) -> int:
        """Waits for the server's end and returns its exit status."""
        return self._server.wait()


def runs_page(address: str, experiment: str) -> str:
    """The address of the page that lists tuner's runs, in the view for model training.

    MLflow 3.17 opens every page in its GenAI view unless the address says otherwise; it ignores
    the experiment's tag `mlflow.experimentKind`.
    """
    number = _experiment_id(address, experiment)
    page = f"experiments/{number}/runs" if number else "experiments"
    return f"{address}/#/{page}?workflowType=machine_learning"


def _experiment_id(address: str, experiment: str) -> str | None:
    query = urllib.parse.urlencode({"experiment_name": experiment})
    url = f"{address}/api/2.0/mlflow/experiments/get-by-name?{query}"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - http alone comes here
            return str(json.load(answer)["experiment"]["experiment_id"])
    except (OSError, HTTPException, ValueError):  # no experiment yet, or the server refuses
        return None


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own server
            return bool(answer.status == 200)
    except (OSError, HTTPException):
        return False


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UnavailableError(
                f"port {port} of {HOST} is taken; choose another: tuner ui --port {port + 1}"
            ) from error
        return int(probe.getsockname()[1])

"""A real MLflow server as a process."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Generator
from pathlib import Path

from tests.waiting import wait_until
from tuner.tracking.settings import TrackingSettings


class Server:
    """An MLflow server process on a port of its own, to be started and stopped at will."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.artifacts = str(folder / "artifacts")
        self.port = free_port()
        self.settings = TrackingSettings(f"http://127.0.0.1:{self.port}", "", "tuner")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        command += ["--artifacts-destination", self.artifacts]
        environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                process_group=0,
            )
        wait_until(self._answers)

    def stop(self) -> None:
        """Ends the whole group: the server's workers outlive their parent otherwise."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "server.log").read_text()
        try:
            with urllib.request.urlopen(f"{self.settings.uri}/health", timeout=5):  # noqa: S310
                return True
        except (urllib.error.URLError, OSError):
            return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def served(folder: Path, empty_store: Path) -> Generator[Server]:
    folder.mkdir()
    shutil.copyfile(empty_store, folder / "mlflow.db")
    server = Server(folder)
    try:
        yield server
    finally:
        server.stop()

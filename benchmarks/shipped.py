"""One sample of `benchmarks.shipping`: drives a study, ships it, and prints what that took.

python -m benchmarks.shipped [--trials 200] [--server]
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.process import python, run_process
from tuner.tracking.settings import TrackingSettings, prepare_mlflow_environment

_PORT = 5917
_START_S = 60.0


def main() -> None:
    """Drives a study, ships it and prints what that took."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--trials", type=int, default=200)
    arguments.add_argument("--server", action="store_true")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ |= {"TUNER_HOME": folder, "TUNER_STORAGE_URL": ""}
        run_process(python("drive", "tuner", "random", given.trials))
        environment = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{_PORT}"} if given.server else {}
        settings = TrackingSettings.from_environment(home, environment)
        if given.server:
            with _server(home):
                measured = _shipped(home, settings, given.trials)
        else:
            measured = _shipped(home, settings, given.trials)
        sys.stdout.write(json.dumps(measured) + "\n")


def _shipped(home: Path, settings: TrackingSettings, trials: int) -> dict[str, float]:
    prepare_mlflow_environment()
    from tuner.tracking.runs.drawing_process import DrawingProcess
    from tuner.tracking.shipping.study_shipper import (
        StudyShipper,  # MLflow reads the environment first
    )

    (folder,) = (path.parent for path in home.glob("studies/*/*/parent"))
    calls = _counted()
    began = time.perf_counter()
    with DrawingProcess() as drawing:
        shipper = StudyShipper(folder, settings, lambda: True, drawing.begin)
        events = shipper.survey().pending
        while shipper.ship(finishing=True):
            pass
        left = shipper.survey().pending
        shipper.close()
    seconds = time.perf_counter() - began
    assert not left, f"{left} events were not shipped"
    kept = [*folder.rglob("*"), *(home / "mlartifacts").rglob("*")]
    return {
        "trials a second": trials / seconds,
        "calls a trial": calls() / trials,
        "events a trial": events / trials,
        "files a trial": sum(path.is_file() for path in kept) / trials,
        "peak memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


@contextmanager
def _server(home: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(_PORT), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{home}/mlflow.db"]
    command += ["--artifacts-destination", str(home / "mlartifacts")]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            process_group=0,
        )
    try:
        _wait_for_server()
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for_server() -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{_PORT}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _counted() -> Callable[[], int]:
    """Counts what is asked of MLflow's client from here on."""
    from mlflow import MlflowClient

    called = 0

    def counting(method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **named: Any) -> Any:
            nonlocal called
            called += 1
            return method(*given, **named)

        return counted

    for name in (
        "search_runs", "create_run", "get_run", "log_batch", "log_inputs", "set_terminated",
        "update_run", "set_tag", "delete_tag",
    ):  # fmt: skip
        setattr(MlflowClient, name, counting(getattr(MlflowClient, name)))
    return lambda: called


if __name__ == "__main__":
    main()

"""How long it takes to ship a study that has been trained, to a SQLite store.

    python -m benchmarks.shipping [--trials 200]

A driver whose trainers answer at once writes the spools of a study of 10 epochs a trial
(`benchmarks.drive`); then the shipper's own code ships them in this process until nothing is left.
Prints a JSON object: trials a second, calls to MLflow's store and events a trial, files a trial in
the study's folder, and the peak of this process's memory in MB.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.process import python, run_process
from tuner.tracking.settings import TrackingSettings, prepare_mlflow_environment


def main() -> None:
    """Drives a study, ships it and prints what that took."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--trials", type=int, default=200)
    trials = arguments.parse_args().trials
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"TUNER_HOME": home, "TUNER_STORAGE_URL": ""}
        run_process(python("drive", "tuner", "random", trials))
        sys.stdout.write(json.dumps(_shipped(Path(home), trials)) + "\n")


def _shipped(home: Path, trials: int) -> dict[str, float]:
    prepare_mlflow_environment()
    from tuner.tracking.study_shipper import StudyShipper  # MLflow reads the environment first

    (folder,) = (path.parent for path in home.glob("studies/*/*/parent"))
    calls = _counted()
    shipper = StudyShipper(folder, TrackingSettings.from_environment(home, {}), lambda: True)
    events = shipper.survey().pending
    began = time.perf_counter()
    while shipper.ship(finishing=True):
        pass
    seconds = time.perf_counter() - began
    left = shipper.survey().pending
    shipper.close()
    assert not left, f"{left} events were not shipped"
    files = sum(path.is_file() for path in folder.rglob("*"))
    return {
        "trials": trials,
        "trials/s": trials / seconds,
        "calls/trial": calls() / trials,
        "events/trial": events / trials,
        "files/trial": files / trials,
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


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
        "search_runs", "create_run", "get_run", "log_batch", "log_inputs", "log_artifacts",
        "set_terminated", "update_run", "set_tag", "delete_tag",
    ):  # fmt: skip
        setattr(MlflowClient, name, counting(getattr(MlflowClient, name)))
    return lambda: called


if __name__ == "__main__":
    main()

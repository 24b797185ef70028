"""What was recorded while MLflow was away is shipped by hand."""

import os
import subprocess
import sys

import mlflow
import pytest

from tuner.home import Home

AWAY = "http://127.0.0.1:9"
"""The port of the discard protocol, where nothing listens."""


def sync(home: Home, *arguments: str, uri: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-P", "-m", "tuner", "sync", *arguments],
        env={**os.environ, "TUNER_HOME": str(home.root), "MLFLOW_TRACKING_URI": uri},
        cwd=home.root,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_what_waits_is_shipped_once_mlflow_answers(studied: Home) -> None:
    away = sync(studied, "small", "--timeout-s", "1", uri=AWAY)
    assert away.returncode == 3
    assert "small: 0 events shipped" in away.stdout
    assert "error: MLflow does not have all events of small" in away.stderr

    there = sync(studied)
    assert there.returncode == 0, there.stderr
    assert there.stdout.endswith("events shipped, 0 wait\n")
    client = mlflow.MlflowClient(f"sqlite:///{studied.root}/mlflow.db")
    experiment = client.get_experiment_by_name("tuner")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["small", *(f"trial {n}" for n in range(4))]
    assert {run.info.status for run in runs} == {"FINISHED"}

    again = sync(studied, "small")
    assert (again.returncode, again.stdout) == (0, "small: 0 events shipped, 0 wait\n")


def test_a_study_that_is_not_there_is_named(studied: Home) -> None:
    missing = sync(studied, "smal")
    assert missing.returncode == 2
    assert "did you mean 'small'" in missing.stderr

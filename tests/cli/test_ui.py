"""`tuner ui` as a person uses it: it starts, shows the runs, and ends without leaving a process."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from mlflow import MlflowClient

from tests.cli.conftest import Workshop
from tests.tracking.store import ship
from tests.waiting import LONGEST_S
from tuner.errors import ExitCode
from tuner.home import Home
from tuner.tracking.settings import TrackingSettings


@pytest.fixture
def shipped(studied: Home, empty_store: Path) -> Home:
    """A home whose study has been shipped to its own MLflow store."""
    shutil.copyfile(empty_store, studied.root / "mlflow.db")
    ship(studied.current_study("small"), TrackingSettings.from_environment(studied.root, {}))
    return studied


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, ExitCode.OK),
        pytest.param(signal.SIGTERM, ExitCode.TERMINATED, marks=pytest.mark.slow),
    ],
)
def test_the_user_interface_shows_a_studys_runs_until_a_signal_ends_it(
    shipped: Home, number: signal.Signals, code: ExitCode
) -> None:
    command = [sys.executable, "-m", "tuner", "ui", "--port", "0"]
    environment = {**Workshop(shipped.root).environment(), "TUNER_HOME": str(shipped.root)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as ui:
        assert ui.stdout is not None
        page = urlsplit(next(line for line in ui.stdout if line.startswith("http")).strip())
        client = MlflowClient(f"{page.scheme}://{page.netloc}")
        experiment = page.fragment.split("/")[2]
        runs = client.search_runs([experiment])
        processes = psutil.Process(ui.pid).children(recursive=True)
        ui.send_signal(number)
        assert ui.wait(LONGEST_S) == code

    assert page.fragment == f"/experiments/{experiment}/runs?workflowType=machine_learning"
    assert {run.info.run_name for run in runs} == {"small", *(f"trial {n}" for n in range(4))}
    assert processes
    _, alive = psutil.wait_procs(processes, timeout=LONGEST_S)
    assert not alive

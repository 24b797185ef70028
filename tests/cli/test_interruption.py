import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest

from tests.cli.conftest import Workshop
from tests.waiting import LONGEST_S
from tuner.home import Home


@pytest.mark.slow
def test_ctrl_c_hands_trials_back_and_the_study_still_ends_exact(
    make_workshop: Callable[[str], Workshop],
) -> None:
    """With a real backend; `tests/faults` has the other signals and moments."""
    workshop = make_workshop("interrupted")
    long = ["run-study", "study.yaml", "--epochs", "60", "--trials", "2"]
    running = workshop.start(*long)
    trainers = _after_first_epoch(running)
    running.send_signal(signal.SIGINT)
    running.communicate()
    assert running.returncode == 130
    _, alive = psutil.wait_procs(trainers, timeout=LONGEST_S)
    assert not alive
    assert workshop.shown()["counts"]["waiting"] == 2

    workshop.tuner(*long)

    study = workshop.shown()
    assert study["counts"]["completed"] == len(study["trials"]) == 2


@pytest.mark.slow
def test_ctrl_c_while_a_promotion_ships_what_was_left_tells_how_to_finish_it(
    studied: Home,
) -> None:
    """MLflow is a server that takes the call and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        ours = {"TUNER_HOME": f"{studied.root}", "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
        arguments = ["promote", "best", "small", "--unconfirmed"]
        with subprocess.Popen(
            [sys.executable, "-P", "-m", "tuner", *arguments],
            env={**os.environ, **ours},
            stderr=subprocess.PIPE,
            text=True,
        ) as waiting:
            assert waiting.stderr is not None
            said = iter(waiting.stderr)
            assert any("shipping what is left to MLflow" in line for line in said)
            waiting.send_signal(signal.SIGINT)
            last = [*said][-1]

    assert waiting.returncode == 130
    assert re.search(r"^stopped; finish it with: .*tuner promote best small --unconfirmed$", last)


def _after_first_epoch(running: "subprocess.Popen[str]") -> list[psutil.Process]:
    """Waits until a trial has reported an epoch; returns the processes that the driver started."""
    assert running.stderr is not None
    for line in running.stderr:
        if re.search(r"trial \d epoch 1/", line):
            children: list[psutil.Process] = psutil.Process(running.pid).children(recursive=True)
            return children
    raise AssertionError("the study ended before its first epoch")


IMPORTING = """
import importlib.abc, runpy, signal, sys

class Interrupts(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "typer":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
runpy.run_module("tuner", run_name="__main__")
"""


def test_ctrl_c_while_the_command_is_being_loaded_ends_it_quietly() -> None:
    command = [sys.executable, "-c", IMPORTING]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")

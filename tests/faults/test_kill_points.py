"""Kill points: a process dies at its point, and a point that has gone is never passed over."""

import importlib
import os
import signal
import subprocess
import sys

import pytest

from tests.faults.conftest import python_path
from tests.faults.kill_points import KillPoint

CALLS = "from tuner.storage import attempts; attempts.close_attempts()"


def run(point: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONPATH": python_path()} | point
    command = [sys.executable, "-c", CALLS]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("point", KillPoint, ids=lambda point: point.name)
def test_a_kill_point_is_found_by_its_name_in_a_process(point: KillPoint) -> None:
    module, path, _, _ = point.environment()["FAULT_DIES_AT"].split(":")
    found: object = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    assert found is point.value.function


def test_a_process_is_killed_at_its_point() -> None:
    assert run(KillPoint.TAKEOVER_BEGINS.environment()).returncode == -signal.SIGKILL


def test_a_kill_point_that_no_longer_exists_ends_the_process_with_an_error() -> None:
    (name, point), *_ = KillPoint.TAKEOVER_BEGINS.environment().items()
    done = run({name: point.replace("close_attempts", "renamed")})
    assert done.returncode == 1
    assert "has no attribute 'renamed'" in done.stderr

"""Running a sample in a fresh process, so that no subject profits from what another loaded."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
"""The repository, where processes start."""

_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}
_TOLD = 2000


@dataclass(frozen=True)
class Ran:
    """A process that ended well."""

    seconds: float
    """Wall time from its start to its exit."""
    answer: dict[str, Any]
    """Its last line on stdout where that is a JSON object, else empty."""


def run_process(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Ran:
    """Runs a command to its end.

    Args:
        command: what to run; `python` makes one for a module of this folder.
        environment: variables set beside those of this process.

    Raises:
        RuntimeError: it ended with another status than 0; with what it said last.
    """
    started = time.perf_counter()
    finished = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **_QUIET, **(environment or {})},
        stdin=subprocess.DEVNULL,  # a shipper works until its input ends
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - started
    _check(command, finished.returncode, finished.stderr.strip() or finished.stdout.strip())
    return Ran(seconds, last_object(finished.stdout))


def python(module: str, *arguments: object) -> list[str]:
    """The command that runs a module of this folder: `python("training", "--epochs", 2)`."""
    return [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]


def own_home(folder: Path) -> dict[str, str]:
    """The variables of a process that has its state in a folder: the database and MLflow too."""
    return {"TUNER_HOME": str(folder), "TUNER_STORAGE_URL": "", "MLFLOW_TRACKING_URI": ""}


def shipper(study: Path, store: str, artifacts: Path) -> list[str]:
    """The command that ships the spools in a study's folder to a store and ends."""
    module = ["-m", "tuner.tracking.shipping.shipper_process", str(study)]
    where = [f"--tracking-uri={store}", f"--artifact-root={artifacts}"]
    return [sys.executable, *module, "--experiment=tuner", *where]


def last_object(printed: str) -> dict[str, Any]:
    """The JSON object on the last line, or an empty one."""
    lines = printed.strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def run_together(commands: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Runs processes that say `ready`, wait for a line on stdin, and then work side by side.

    Returns:
        The JSON object that each said last, and in it `launched`, the monotonic time at which
        all were started.

    Raises:
        RuntimeError: one ended with another status than 0; with what it said last.
    """
    launched = time.monotonic()
    started = [_Waiting(command) for command in commands]
    try:
        for one in started:
            one.wait_until_ready()
        for one in started:
            one.go()
        return [{**one.answer(), "launched": launched} for one in started]
    finally:
        for one in started:
            one.end()


class _Waiting:
    """A process that begins its work when it is told to."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `end`
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **_QUIET},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def wait_until_ready(self) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            self.answer()

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        printed, _ = self._process.communicate()
        self._log.seek(0)
        _check(self._command, self._process.returncode, self._log.read().strip())
        return last_object(printed)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()


def _check(command: Sequence[str | Path], code: int, said: str) -> None:
    if code:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {code}\n{said[-_TOLD:]}")

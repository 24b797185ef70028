"""How long commands take that do not train: the whole process, start-up and imports included.

    python -m benchmarks.cli [--short] [--trials 30]

In a home with a finished study, whose runs are in a local MLflow store. Limits, in seconds: 0.3
for what needs no database, 2 for what reads it, 5 for what speaks to MLflow. `python` is the
interpreter alone. Deleting works on a copy of the home. `predict` finds no model and says so:
what it takes to load one and to ask it depends on the model.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.harness import Result, interleaved, parser
from benchmarks.process import own_home, python, run_process, shipper

LIGHT_S, DATABASE_S, MLFLOW_S = 0.3, 2.0, 5.0
_STUDY = "{study}"


@dataclass(frozen=True)
class Command:
    """A command as it is typed, and what it may take."""

    typed: str
    limit_s: float
    code: int = 0
    destroys: bool = False
    """It works on a copy of the home."""


COMMANDS = (
    Command("--help", LIGHT_S),
    Command("--version", LIGHT_S),
    Command("frobnicate", LIGHT_S, code=2),
    Command("run-study missing.yaml", LIGHT_S, code=2),
    Command("datasets", LIGHT_S),
    Command("models", LIGHT_S),
    Command("schema", LIGHT_S),
    Command("studies", DATABASE_S),
    Command(f"show {_STUDY}", DATABASE_S),
    Command("show nothing", DATABASE_S, code=2),
    Command(f"stop {_STUDY}", DATABASE_S, code=1),
    Command(f"enqueue {_STUDY} batch_size=32", DATABASE_S),
    Command("predict picture.png --model none", MLFLOW_S, code=1),
    Command(f"delete {_STUDY} --yes", MLFLOW_S, destroys=True),
)


@dataclass(frozen=True)
class Place:
    """A home with a study in it."""

    home: Path
    study: str

    def seconds(self, command: Command) -> float:
        """Runs the command once."""
        typed = command.typed.replace(_STUDY, self.study).split()
        with self._own(command) as home:
            return _timed([sys.executable, "-P", "-m", "tuner", *typed], home, command.code)

    @contextmanager
    def _own(self, command: Command) -> Iterator[Path]:
        if not command.destroys:
            yield self.home
            return
        with tempfile.TemporaryDirectory() as folder:
            yield Path(shutil.copytree(self.home, Path(folder) / "home"))


def main() -> None:
    """Times every command, interleaved, and writes `cli-<cpu|gpu>.json`."""
    asked = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        place = _studied(Path(folder) / "home", asked.trials)
        subjects = {
            "python": partial(_timed, [sys.executable, "-c", "pass"], place.home, 0),
            **{command.typed: partial(place.seconds, command) for command in COMMANDS},
        }
        found = interleaved(subjects, asked.rounds)
    result = Result("cli", {"trials": asked.trials})
    for subject, samples in found.items():
        result.add(subject, "wall", "s", samples)
    result.facts["limits_s"] = {command.typed: command.limit_s for command in COMMANDS}
    result.finish(asked)


def _studied(home: Path, trials: int) -> Place:
    """Drives a study without training it, and ships it."""
    run_process(python("drive", "tuner", "tpe", trials), own_home(home))
    (study,) = (home / "studies").iterdir()
    store = f"sqlite:///{home}/mlflow.db"
    run_process(shipper(study, store, home / "mlartifacts"), own_home(home))
    return Place(home, study.name)


def _timed(command: list[str], home: Path, code: int) -> float:
    began = time.perf_counter()
    ended = subprocess.run(
        command,
        cwd=home,
        env={**os.environ, **own_home(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began
    if ended.returncode != code:
        raise RuntimeError(f"{' '.join(command)}: exit {ended.returncode}\n{ended.stderr}")
    return seconds


def _arguments() -> argparse.Namespace:
    arguments = parser(__doc__, rounds=10)
    arguments.add_argument("--trials", type=int, default=30, help="of the study in the home")
    asked = arguments.parse_args()
    if asked.short:
        asked.rounds, asked.trials = 3, 10
    return asked


if __name__ == "__main__":
    main()

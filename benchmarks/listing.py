"""How long the commands take that look at every study, in a home that holds much.

    python -m benchmarks.listing [--short] [--trials 2000] [--studies 200]

A driver whose trainers answer at once (`benchmarks.drive`) fills a home with one study of many
trials, 10 epochs each, and many studies of two. Whole processes are timed, start-up included: in
an empty home, in the full one, of which doctor names every trial, and in a copy of it whose
studies have been shipped to SQLite and a folder, where doctor compares everything.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.harness import Result, interleaved, parser
from benchmarks.process import own_home, run_process

_SMALL = 2
"""Trials of the studies that are many."""
_LONGEST_S = 36_000
_TUNER = [sys.executable, "-P", "-m", "tuner"]


def main() -> None:
    """Fills the homes, asks about them, interleaved, and writes `listing-<cpu|gpu>.json`."""
    asked = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        homes = {name: Path(folder) / name for name in ("empty", "unshipped", "shipped")}
        _fill(homes["unshipped"], [asked.trials, *[_SMALL] * asked.studies])
        shutil.copytree(homes["unshipped"], homes["shipped"])
        sync = [*_TUNER, "sync", "--timeout-s", str(_LONGEST_S)]
        run_process(sync, own_home(homes["shipped"]))
        subjects = {
            f"{command}, {name}": partial(_seconds, command, home)
            for command in ("studies", "doctor")
            for name, home in homes.items()
        }
        found = interleaved(subjects, asked.rounds)
    result = Result("listing", {"trials": asked.trials, "studies of two trials": asked.studies})
    for subject, samples in found.items():
        result.add(subject, "wall", "s", samples)
    result.finish(asked)


def _fill(folder: Path, trials: Sequence[int]) -> None:
    """Drives a study of each of these numbers of trials."""
    os.environ |= own_home(folder)
    from benchmarks.drive import driven, study_spec
    from tuner.home import Home
    from tuner.storage.opening import open_database

    home = Home.from_environment()
    with open_database(home) as database:
        for count in trials:
            driven(home, database, study_spec("random", count))


def _seconds(command: str, home: Path) -> float:
    """Of one process; doctor's status is 1 where something waits to be shipped."""
    began = time.perf_counter()
    environment = {**os.environ, **own_home(home)}
    done = subprocess.run([*_TUNER, command], env=environment, capture_output=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode not in (0, 1):
        raise RuntimeError(f"tuner {command}: exit {done.returncode}\n{done.stderr.decode()}")
    return seconds


def _arguments() -> argparse.Namespace:
    arguments = parser(__doc__, rounds=5)
    arguments.add_argument("--trials", type=int, default=2000, help="of the large study")
    arguments.add_argument("--studies", type=int, default=200, help="of two trials each")
    asked = arguments.parse_args()
    if asked.short:
        asked.rounds, asked.trials, asked.studies = 1, 20, 2
    return asked


if __name__ == "__main__":
    main()

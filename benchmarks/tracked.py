"""One sample of `benchmarks.tracking`: runs a study and prints how long its epochs took.

    TUNER_HOME=... python -m benchmarks.tracked FILE [--untracked]

`--untracked` starts no shipper. The spools are written all the same; `benchmarks.overhead`
tells what they cost.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from statistics import median
from unittest.mock import patch

from tuner.driver import session
from tuner.driver.run_study import run_study
from tuner.home import Home
from tuner.spec.text.reader import read_study
from tuner.study.driver_events import EpochDone, ProgressEvent, TrialBegan, TrialDone
from tuner.study.study_file import StudyFile
from tuner.tracking.spool.shipped import survey


class Watch:
    """Keeps what the driver tells of epochs, and when."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._ended = 0.0
        self._epochs: list[EpochDone] = []
        self._devices: dict[int, str] = {}
        self._freed: dict[str, float] = {}
        """When a trainer's trial before the present one ended."""
        self._beyond: list[float] = []

    def take(self, event: ProgressEvent) -> None:
        """Takes one event."""
        match event:
            case TrialBegan(number=number, device=device):
                self._began = self._began or time.perf_counter()
                self._devices[number] = device
            case TrialDone(number=number):
                self._ended = time.perf_counter()
                self._end(number)
            case EpochDone():
                self._epochs.append(event)

    def sample(self) -> dict[str, float]:
        """Seconds, by the names and rules of `benchmarks.tracking`."""
        assert self._began is not None
        return {
            "epoch": median(_later(self._epochs)),
            "wall a trial-epoch": (self._ended - self._began) / len(self._epochs),
            "beyond a trial's epochs": median(self._beyond),
        }

    def _end(self, number: int) -> None:
        """From one trial's end to the next one's at the same trainer, less the epochs.

        The first epoch counts as long as the others, so that tracing is found out.
        """
        device = self._devices[number]
        if device in self._freed:
            steady = _later(one for one in self._epochs if one.number == number)
            epochs = sum(steady) + median(steady)
            self._beyond.append(self._ended - self._freed[device] - epochs)
        self._freed[device] = self._ended


def _later(epochs: Iterable[EpochDone]) -> list[float]:
    """The seconds of all but first epochs."""
    return [one.seconds for one in epochs if one.epoch > 1 and one.seconds is not None]


def main() -> None:
    """Runs the study and prints the sample as JSON."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("file", type=Path)
    arguments.add_argument("--untracked", action="store_true")
    arguments.add_argument("--complete", action="store_true", help="MLflow must have everything")
    asked = arguments.parse_args()
    file = StudyFile(read_study(asked.file), str(asked.file), (asked.file.parent,))
    watch = Watch()
    with ExitStack() as changed:
        if asked.untracked:
            changed.enter_context(patch.object(session, "shipping", lambda *_: nullcontext()))
        home = Home.from_environment()
        summary = run_study(file, home, notify=watch.take)
    if summary.counts["completed"] != summary.slots:
        raise SystemExit(f"not every trial trained all its epochs: {summary.counts}")
    if asked.complete and survey(home.current_study(summary.study)).pending:
        raise SystemExit("MLflow does not have everything")
    sys.stdout.write(json.dumps(watch.sample()) + "\n")


if __name__ == "__main__":
    main()

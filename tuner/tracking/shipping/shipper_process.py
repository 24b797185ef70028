"""The shipper process, which ships a study's spools to MLflow beside the driver.

    python -m tuner.tracking.shipping.shipper_process STUDY_FOLDER [options]

It runs until its standard input ends, which means that the driver has finished or died. Then it
ships what is left and exits: 0 when everything is in MLflow, 3 when MLflow stayed away (the spools
keep the rest), 1 when a person must repair the store first, 143 on SIGTERM and when the study was
deleted. One shipper at a time works on a study folder; others wait and report its progress. It
writes JSON lines to standard output: `{"uid": ..., "run_id": ...}` for each new run,
`{"pending": n}` when the number of unshipped events has changed, also while it ships, and
`{"refused": why}` before exit code 1.
"""

import argparse
import json
import logging
import math
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.children import take_streams
from tuner.errors import ExitCode, RefusedError, UnavailableError
from tuner.startup import configure_process
from tuner.tracking.settings import TrackingSettings, prepare_mlflow_environment
from tuner.tracking.spool.shipped import Survey

if TYPE_CHECKING:
    from tuner.tracking.shipping.study_shipper import StudyShipper

_SHORTEST_WAIT_S, _LONGEST_IDLE_S, _LONGEST_OUTAGE_S = 0.1, 1.0, 8.0

_REPORT_S = 5.0
"""Least time between two reports while the shipper is at work: each reads every spool's end."""

_logger = logging.getLogger(__name__)


class DriverWatch:
    """Notices when the driver is gone, with the end of `requests`, or this process is to end."""

    def __init__(self, requests: int) -> None:
        self.driver_gone = False
        self._requests = requests
        self.terminated = False
        self._wakeups, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGTERM, self._on_terminate)

    def wait(self, timeout_s: float) -> None:
        """Waits for either of them, `timeout_s` seconds at most."""
        watched = [self._wakeups] if self.driver_gone else [self._wakeups, self._requests]
        readable, _, _ = select.select(watched, [], [], timeout_s)
        if self._requests in readable and not os.read(self._requests, 4096):
            self.driver_gone = True

    def _on_terminate(self, _signal: int, _frame: object) -> None:
        self.terminated = True


class Report:
    """Reports to the driver, each fact once. The driver may be gone."""

    def __init__(self, answers: int) -> None:
        self._answers = answers
        self._runs: dict[str, str] = {}
        self._pending: int | None = None
        self._telling = threading.Lock()
        self._due = 0.0
        self.news_at = time.monotonic()
        """When progress was reported last: a new run, or fewer unshipped events."""

    def tell_now_and_then(self, survey: Callable[[], Survey]) -> None:
        """Reports every few seconds, however many threads call this however often."""
        if time.monotonic() >= self._due and self._telling.acquire(blocking=False):
            try:
                self.tell(survey())
            finally:
                self._telling.release()

    def tell(self, known: Survey) -> None:
        """Reports what has changed since the last call."""
        for uid, run_id in known.runs.items():
            if self._runs.get(uid) != run_id:
                self._say({"uid": uid, "run_id": run_id})
        before = math.inf if self._pending is None else self._pending
        if known.pending < before or known.runs != self._runs:
            self.news_at = time.monotonic()
        if known.pending != before:
            self._say({"pending": known.pending})
        self._runs, self._pending = known.runs, known.pending
        self._due = time.monotonic() + _REPORT_S

    def refuse(self, why: str) -> None:
        """Reports that nothing can be shipped until a person has repaired something."""
        self._say({"refused": why})

    def _say(self, message: dict[str, object]) -> None:
        try:
            os.write(self._answers, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            _logger.debug("the driver is gone")


class Outage:
    """Logs once that MLflow is away, and once that it is back."""

    def __init__(self) -> None:
        self.lasts = False

    def begins(self, error: UnavailableError) -> None:
        """Notes that MLflow did not answer."""
        if not self.lasts:
            _logger.warning("%s; events wait in the spool", error)
        self.lasts = True

    def ends(self) -> None:
        """Notes that MLflow answered."""
        if self.lasts:
            _logger.warning("MLflow is back")
        self.lasts = False


def run(
    shipper: "StudyShipper", watch: DriverWatch, report: Report, drain_timeout_s: float
) -> ExitCode:
    """Ships until the driver is gone and nothing is left, or nothing more can be done.

    Gives up `drain_timeout_s` seconds after the driver's end or the last news.
    """
    outage = Outage()
    report.tell(shipper.survey())
    wait_s, driven_at = _SHORTEST_WAIT_S, time.monotonic()
    while not (watch.terminated or shipper.dismissed):
        watch.wait(0)
        driver_gone = watch.driver_gone  # read first: what the driver wrote before is shipped below
        try:
            shipped = _ship(shipper, outage, finishing=driver_gone)
        except RefusedError as error:
            _logger.error("%s", error)  # noqa: TRY400 - the message says it all
            report.refuse(str(error))
            return ExitCode.REFUSED
        known = shipper.survey()
        report.tell(known)
        if driver_gone and not known.pending:
            return ExitCode.OK
        if not driver_gone:
            driven_at = time.monotonic()
        elif time.monotonic() - max(driven_at, report.news_at) > drain_timeout_s:
            _logger.error("giving up: %d events wait in the spool for MLflow", known.pending)
            return ExitCode.UNAVAILABLE
        longest = _LONGEST_OUTAGE_S if outage.lasts else _LONGEST_IDLE_S
        wait_s = _SHORTEST_WAIT_S if shipped else min(wait_s * 2, longest)
        watch.wait(wait_s)
    return ExitCode.TERMINATED


def _ship(shipper: "StudyShipper", outage: Outage, *, finishing: bool) -> int:
    try:
        shipped = shipper.ship(finishing=finishing)
    except UnavailableError as error:
        outage.begins(error)
        return 0
    outage.ends()
    return shipped


def main(argv: list[str] | None = None) -> int:
    """Runs the process. Ignores Ctrl-C: the driver reacts to it and closes standard input."""
    configure_process()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = take_streams()
    watch = DriverWatch(requests)
    arguments = _parser().parse_args(argv)
    settings = TrackingSettings(
        arguments.tracking_uri, arguments.artifact_root, arguments.experiment
    )
    report = Report(answers)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    prepare_mlflow_environment()
    from tuner.tracking.runs.drawing_process import DrawingProcess
    from tuner.tracking.shipping.study_shipper import (
        StudyShipper,  # MLflow reads the environment first.
    )

    # Low priority, so that drawing does not slow down training. Set after the imports: beside busy
    # cores they would take longer than a short study.
    os.nice(10)

    def go_on() -> bool:
        report.tell_now_and_then(shipper.survey)
        return not watch.terminated

    with DrawingProcess() as drawing:
        shipper = StudyShipper(arguments.study_folder, settings, go_on, drawing.begin)
        try:
            return run(shipper, watch, report, arguments.drain_timeout_s)
        finally:
            shipper.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tuner.tracking.shipping.shipper_process", description=__doc__
    )
    parser.add_argument("study_folder", type=Path)
    parser.add_argument(
        "--tracking-uri",
        default=os.environ.get("MLFLOW_TRACKING_URI", ""),
        help="default: MLFLOW_TRACKING_URI, which other users' process lists do not show",
    )
    parser.add_argument("--artifact-root", default="", help="empty: the server decides")
    parser.add_argument("--experiment", required=True)
    parser.add_argument("--drain-timeout-s", type=float, default=60.0)
    return parser


if __name__ == "__main__":
    sys.exit(main())

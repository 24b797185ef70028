"""The process that ships a study's spools to MLflow, beside the driver.

    python -m tuner.tracking.shipping.shipper_process STUDY_FOLDER [options]

It works until its standard input ends, which means that the driver has finished or died,
then ships what is left and exits: 0 when everything is in MLflow, 3 when MLflow stayed
away (the spools keep the rest), 1 when a person has to mend the store first, 143 on SIGTERM and
when the study was deleted. One shipper at a time works on a study folder; others wait for it and
report what it does. On standard output, JSON lines: `{"uid": ..., "run_id": ...}` for each run as
it comes to be known, `{"pending": n}` whenever the number of unshipped events has changed, and
`{"refused": why}` before exit code 1.
"""

import argparse
import json
import logging
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.errors import ExitCode, RefusedError, UnavailableError
from tuner.startup import settle
from tuner.tracking.settings import TrackingSettings, prepare_mlflow_environment
from tuner.tracking.spool.shipped import Survey

if TYPE_CHECKING:
    from tuner.tracking.shipping.study_shipper import StudyShipper

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_SHORTEST_WAIT_S, _LONGEST_IDLE_S, _LONGEST_OUTAGE_S = 0.1, 1.0, 8.0

_logger = logging.getLogger(__name__)


class DriverWatch:
    """Knows whether the driver is gone and whether this process was told to end."""

    def __init__(self) -> None:
        self.driver_gone = False
        self.terminated = False
        self._wakeups, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGTERM, self._on_terminate)

    def wait(self, timeout_s: float) -> None:
        """Returns after `timeout_s`, or at once when either comes to be known."""
        watched = [self._wakeups] if self.driver_gone else [self._wakeups, _STDIN]
        readable, _, _ = select.select(watched, [], [], timeout_s)
        if _STDIN in readable and not os.read(_STDIN, 4096):
            self.driver_gone = True

    def _on_terminate(self, _signal: int, _frame: object) -> None:
        self.terminated = True


class Report:
    """Tells the driver, each thing once; nobody may be listening any more.

    Takes standard output for itself: what a library prints goes to standard error.
    """

    def __init__(self) -> None:
        self._output = os.dup(_STDOUT)
        os.dup2(_STDERR, _STDOUT)
        self._runs: dict[str, str] = {}
        self._pending: int | None = None

    def tell(self, known: Survey) -> None:
        """Writes what has changed since the last call."""
        for uid, run_id in known.runs.items():
            if self._runs.get(uid) != run_id:
                self._say({"uid": uid, "run_id": run_id})
        if known.pending != self._pending:
            self._say({"pending": known.pending})
        self._runs, self._pending = known.runs, known.pending

    def refuse(self, why: str) -> None:
        """Says that nothing can be shipped until a person has mended something."""
        self._say({"refused": why})

    def _say(self, message: dict[str, object]) -> None:
        try:
            os.write(self._output, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            _logger.debug("nobody listens")


class Outage:
    """Warns once when MLflow goes away, and says when it is back."""

    def __init__(self) -> None:
        self.lasts = False

    def begins(self, error: UnavailableError) -> None:
        """MLflow did not answer."""
        if not self.lasts:
            _logger.warning("%s; events wait in the spool", error)
        self.lasts = True

    def ends(self) -> None:
        """MLflow answered."""
        if self.lasts:
            _logger.warning("MLflow is back")
        self.lasts = False


def run(
    shipper: "StudyShipper", watch: DriverWatch, report: Report, drain_timeout_s: float
) -> ExitCode:
    """Ships until the driver is gone and nothing is left, or nothing more can be done.

    `drain_timeout_s` counts from when the driver went or an event was last shipped.
    """
    outage = Outage()
    report.tell(shipper.survey())
    wait_s, useful_at = _SHORTEST_WAIT_S, time.monotonic()
    while not (watch.terminated or shipper.dismissed):
        watch.wait(0)
        driver_gone = watch.driver_gone  # What it wrote before it went is shipped below.
        try:
            shipped = _ship(shipper, outage, finishing=driver_gone)
        except RefusedError as error:
            _logger.error("%s", error)  # noqa: TRY400 - what it says is all there is to know
            report.refuse(str(error))
            return ExitCode.REFUSED
        known = shipper.survey()
        report.tell(known)
        if driver_gone and not known.pending:
            return ExitCode.OK
        if shipped or not driver_gone:
            useful_at = time.monotonic()
        elif time.monotonic() - useful_at > drain_timeout_s:
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
    """Runs the process; Ctrl-C is the driver's business and reaches this one through stdin."""
    settle()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watch = DriverWatch()
    arguments = _parser().parse_args(argv)
    settings = TrackingSettings(
        arguments.tracking_uri, arguments.artifact_root, arguments.experiment
    )
    report = Report()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    prepare_mlflow_environment()
    from tuner.tracking.runs.drawing_process import DrawingProcess
    from tuner.tracking.shipping.study_shipper import (
        StudyShipper,  # MLflow reads the environment first.
    )

    # Drawing figures must not slow down training. Beside busy cores, imports would take so
    # long at this priority that a short study is over before its first run is seen.
    os.nice(10)
    with DrawingProcess() as drawing:
        shipper = StudyShipper(
            arguments.study_folder, settings, lambda: not watch.terminated, drawing.begin
        )
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

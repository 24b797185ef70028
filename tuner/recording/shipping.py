"""The shipper beside a driver: started with it, supervised, and drained when it leaves."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tuner.errors import UnavailableError
from tuner.home import Home
from tuner.storage.attempts import Ledger
from tuner.storage.database import Database
from tuner.storage.drivers import Drivers
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.shipping.shipper import Shipper
from tuner.tracking.spool.shipped import Survey, survey
from tuner.tracking.spool.spool import is_own
from tuner.words import command, count

_RESTART_S = 30.0
"""Least time between two starts of a shipper process."""


class DriverShipping:
    """A shipper process for one study, and the MLflow run ids that it reports."""

    def __init__(self, folder: Path, tracking: TrackingSettings, ledger: Ledger) -> None:
        self._folder = folder
        self._tracking = tracking
        self._ledger = ledger
        self._start()

    def supervise(self) -> None:
        """Stores new run ids in the ledger, and restarts a shipper that has died.

        To be called several times a second; waits for nothing but the database.

        Raises:
            UnavailableError: MLflow refuses every run until a person has repaired something.
        """
        self._name_runs()
        self.check()
        if not self._shipper.alive and time.monotonic() - self._started > _RESTART_S:
            self._shipper.finish(lambda: 0)
            self._name_runs()
            self._start()

    def wait_started(self) -> None:
        """Waits until the shipper has loaded MLflow, so that a time limit counts from then."""
        self._shipper.wait_started()

    def _start(self) -> None:
        self._started = time.monotonic()
        self._shipper = Shipper(self._folder, self._tracking)

    def _name_runs(self) -> None:
        for uid, run_id in self._shipper.poll():
            self._ledger.name_run(uid, run_id)

    def check(self) -> None:
        """Raises `UnavailableError` when MLflow refuses every run."""
        if self._shipper.refusal:
            raise UnavailableError(self._shipper.refusal)

    def drain(self, timeout_s: Callable[[], float], say: Callable[[str], None]) -> None:
        """Waits at most `timeout_s()` seconds for the shipper, and says what MLflow lacks then."""
        say("shipping what is left to MLflow")
        if self._shipper.finish(timeout_s) and not self._shipper.refusal:
            say(
                f"MLflow at {self._tracking.shown_uri} does not have everything yet: "
                f"{self._shipper.pending or 'some'} events wait in {self._folder} and are "
                f"shipped by tuner sync, or when the study runs again; see {self._shipper.log}"
            )
        report_refused_parts(survey(self._folder), say)
        self._name_runs()


def report_refused_parts(found: Survey, say: Callable[[str], None]) -> None:
    """Says what a study's runs lack for good: refused parts and unreadable lines."""
    if found.turned_down:
        say(
            f"MLflow refused {count(len(found.turned_down), 'part')} of what was recorded, "
            f"which its runs lack: {found.turned_down[-1]}; tuner doctor names each, and with "
            "--fix tries it again"
        )
    if found.unreadable:
        say(
            f"{count(found.unreadable, 'line')} of what was recorded here cannot be read, and "
            "their content is in no run; tuner doctor names the files"
        )


def report_trials_elsewhere(
    home: Home, database: Database, study: str, say: Callable[[str], None]
) -> None:
    """Says which trials have no known run and no spool in this home, and where they were made.

    Their home may still ship them, or may be lost: this home cannot know.
    """
    attempts, drivers = Ledger(database, study).attempts(), Drivers(database, study)
    hosts, registered = drivers.hosts(), {driver.uid for driver in drivers.registered()}
    absent = Counter(
        hosts[each.driver]
        for each in attempts
        if each.final and each.run_id is None and each.driver not in registered
        if not is_own(home.attempt(study, each.slot, each.number))
    )
    if absent:
        where = ", ".join(f"{number} made on {host}" for host, number in absent.items())
        say(
            f"{count(absent.total(), 'trial has', 'trials have')} no run in MLflow that is known, "
            f"and no spool in this home ({where}); tuner sync in the home that holds it ships it, "
            f"and if that home is lost, {command('show', study)} has their figures"
        )


@contextmanager
def shipping(
    folder: Path,
    tracking: TrackingSettings,
    ledger: Ledger,
    timeout_s: Callable[[], float],
    say: Callable[[str], None],
) -> Iterator[DriverShipping]:
    """Ships a study's spools during the block, and drains them at its end.

    Args:
        folder: the study's folder in the home.
        tracking: where MLflow is.
        ledger: receives the run ids.
        timeout_s: how many seconds draining may take; called again and again meanwhile.
        say: receives messages for people.

    Raises:
        UnavailableError: MLflow refuses every run until a person has repaired something.
    """
    shipment = DriverShipping(folder, tracking, ledger)
    try:
        yield shipment
    finally:
        shipment.drain(timeout_s, say)
    shipment.check()

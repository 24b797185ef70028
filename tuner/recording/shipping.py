"""The shipper beside a driver: started with it, drained when it leaves."""

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
from tuner.words import count

_AGAIN_S = 30.0


class DriverShipping:
    """Ships one study's spools and writes down which run shows which attempt."""

    def __init__(self, folder: Path, tracking: TrackingSettings, ledger: Ledger) -> None:
        self._folder = folder
        self._tracking = tracking
        self._ledger = ledger
        self._start()

    def look(self) -> None:
        """Writes the run ids that have come to be known into the ledger.

        A shipper that has died, for example for want of memory, is started again.

        Raises:
            UnavailableError: MLflow turns every run down until a person has mended something.
        """
        self._name_runs()
        self.check()
        if not self._shipper.alive and time.monotonic() - self._started > _AGAIN_S:
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
        """Raises `UnavailableError` when MLflow turns every run down."""
        if self._shipper.refusal:
            raise UnavailableError(self._shipper.refusal)

    def drain(self, timeout_s: Callable[[], float], say: Callable[[str], None]) -> None:
        """Lets the shipper finish, and says so when MLflow does not have everything then."""
        say("shipping what is left to MLflow")
        if self._shipper.finish(timeout_s) and not self._shipper.refusal:
            say(
                f"MLflow at {self._tracking.shown_uri} does not have everything yet: "
                f"{self._shipper.pending or 'some'} events wait in {self._folder} and are "
                f"shipped by tuner sync, or when the study runs again; see {self._shipper.log}"
            )
        tell_lacking(survey(self._folder), say)
        self._name_runs()


def tell_lacking(found: Survey, say: Callable[[str], None]) -> None:
    """Says what a study's runs lack for good, if anything."""
    if found.turned_down:
        say(
            f"MLflow turned {count(len(found.turned_down), 'part')} of what was recorded down, "
            f"which its runs lack: {found.turned_down[-1]}; tuner doctor names each, and with "
            "--fix tries it again"
        )
    if found.unreadable:
        say(
            f"{count(found.unreadable, 'line')} of what was recorded here cannot be read, and "
            "what stood there alone is in no run; tuner doctor names the files"
        )


def tell_elsewhere(home: Home, database: Database, study: str, say: Callable[[str], None]) -> None:
    """Says of which trials no run is known that this home could ship, and where they were made.

    Nobody can tell here whether their home will ship them or is lost.
    """
    attempts, members = Ledger(database, study).attempts(), Drivers(database, study)
    hosts, present = members.hosts(), {member.uid for member in members.registered()}
    absent = Counter(
        hosts[each.driver]
        for each in attempts
        if each.final and each.run_id is None and each.driver not in present
        if not is_own(home.attempt(study, each.slot, each.number))
    )
    if absent:
        where = ", ".join(f"{number} made on {host}" for host, number in absent.items())
        say(
            f"{count(absent.total(), 'trial has', 'trials have')} no run in MLflow that is known, "
            f"and no spool in this home ({where}); tuner sync in the home that holds it ships it, "
            f"and if that home is lost, tuner show {study} has their figures"
        )


@contextmanager
def shipping(
    folder: Path,
    tracking: TrackingSettings,
    ledger: Ledger,
    timeout_s: Callable[[], float],
    say: Callable[[str], None],
) -> Iterator[DriverShipping]:
    """A shipment that is drained at the end, for as long as `timeout_s` says while it lasts.

    Raises:
        UnavailableError: MLflow turns every run down until a person has mended something.
    """
    shipment = DriverShipping(folder, tracking, ledger)
    try:
        yield shipment
    finally:
        shipment.drain(timeout_s, say)
    shipment.check()

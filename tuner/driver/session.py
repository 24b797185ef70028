"""A driver's session in a study: it joins the study's drivers, trains, and leaves.

The program, the tests and the benchmarks compose a driver here. What differs between them is
given: the pool, when to stop, who is notified, whether anything is shipped.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from tuner.driver.driver_loop import Driver
from tuner.driver.orders import Control
from tuner.driver.plans import Planner
from tuner.errors import TunerError
from tuner.home import Home
from tuner.recording.journal import Journal
from tuner.recording.provenance import UNKNOWN, Provenance
from tuner.recording.shipping import DriverShipping, shipping
from tuner.recovery.retention import keep_checkpoints_of
from tuner.recovery.takeover import PeerDrivers
from tuner.search.race_trials import has_free_slot
from tuner.search.trials import Trials
from tuner.storage.attempts import Ledger
from tuner.storage.code_versions import CodeVersion, CodeVersions
from tuner.storage.database import Database
from tuner.storage.drivers import DriverLease
from tuner.storage.studies import Catalog, DesiredState, StudyRecord
from tuner.study.driver_events import Notify, SetupStep, ignore
from tuner.study.summary import StudySummary, plan_of
from tuner.tracking.settings import TrackingSettings
from tuner.workers.pool import TrainerPool

_SHIPPING_WHEN_STOPPED_S = 5.0


def shipping_patience(
    catalog: Catalog, study: str, stopped: Callable[[], bool]
) -> Callable[[], float]:
    """Returns how many seconds a driver that leaves waits for its shipper, as a function.

    Without an order to stop there is no limit, as long as the shipper makes progress. The next
    run ships the rest. A database that does not answer gives no order.
    """

    def is_told_to_stop() -> bool:
        try:
            return stopped() or catalog.desired_state(study) is DesiredState.STOP
        except (SQLAlchemyError, TunerError):
            return stopped()

    def patience_s() -> float:
        return _SHIPPING_WHEN_STOPPED_S if is_told_to_stop() else math.inf

    return patience_s


@dataclass(frozen=True, kw_only=True)
class DriverSession:
    """The parts of one driver, for a study that exists."""

    home: Home
    """Where spools and models lie. The caller holds the study's driver lock there."""
    database: Database
    record: StudyRecord
    planner: Planner
    pool: TrainerPool
    lease_s: float
    """Seconds without a heartbeat after which other drivers take this one over."""
    stopped: Callable[[], bool] = lambda: False
    """Whether this process was told to stop."""
    notify: Notify = ignore
    tracking: TrackingSettings | None = None
    """Where a shipper sends the spools; None starts no shipper."""
    provenance: Provenance = UNKNOWN
    epoch_s: float | None = None
    """Measured seconds of an epoch while all trainers are busy, for the forecast."""
    epoch_limit_s: float = math.inf
    """A trainer that reports no epoch for this many seconds is killed."""
    stays: bool = True
    """Whether the driver waits for the trials of other drivers, and for the end of a pause."""

    def run(self) -> StudySummary:
        """Trains until no trial is left or the orders say stop.

        May be called again, to rejoin the study after a `SupersededError`.

        Raises:
            SupersededError: other drivers took this one over.
            TunerError: as `Driver.run`, or MLflow turns every run down.
        """
        lease = DriverLease(self.database, self.record.name, self.home.uid, self.lease_s)
        with self.database.retrying(self.stopped, self._say), lease:
            ledger, control = Ledger(self.database, self.record.name, lease.uid), self._control()
            trials = Trials(self.database, self.record.spec)
            versions = CodeVersions(self.database, self.record.name).all()
            with (
                self._shipping(ledger) as shipper,  # drained once the journal is closed,
                # which may still write to full disks
                closing(self._journal(lease, trials, versions)) as journal,
            ):
                peers = self._peers(journal, lease)
                self._open(peers, ledger, journal, only_code=len(versions) == 1)
                driver = Driver(
                    planner=self.planner,
                    trials=trials,
                    ledger=ledger,
                    pool=self.pool,
                    journal=journal,
                    peers=peers,
                    control=control,
                    shipping=shipper,
                    notify=self.notify,
                    epoch_limit_s=self.epoch_limit_s,
                    stays=self.stays,
                )
                self._drive(driver, lease, peers, ledger, journal)
            return driver.summary()

    def _control(self) -> Control:
        spec, code = self.record.spec, self.planner.code
        return Control(Catalog(self.database), spec, self.stopped, code)

    def _shipping(self, ledger: Ledger) -> AbstractContextManager[DriverShipping | None]:
        if self.tracking is None:
            return nullcontext()
        self.home.set_current(self.record.name, self.record.uid)
        folder = self.home.current_study(self.record.name)
        patience = shipping_patience(Catalog(self.database), self.record.name, self.stopped)
        return shipping(folder, self.tracking, ledger, patience, self._say)

    def _journal(
        self, lease: DriverLease, trials: Trials, versions: Sequence[CodeVersion]
    ) -> Journal:
        return Journal(
            self.home,
            self.database,
            self.record,
            self.provenance,
            trials,
            versions,
            leads=lease.leads,
            say=self._say,
        )

    def _peers(self, journal: Journal, lease: DriverLease) -> PeerDrivers:
        name = self.record.name
        return PeerDrivers(self.home, self.database, name, journal, self._say, lease.uid)

    def _open(
        self, peers: PeerDrivers, ledger: Ledger, journal: Journal, *, only_code: bool
    ) -> None:
        """Closes what dead drivers left here, and opens the study's run."""
        peers.close_leftovers(ledger)
        keep_checkpoints_of(self.home, self.record.name, self.planner.code, only=only_code)
        journal.study_opened()

    def _drive(
        self,
        driver: Driver,
        lease: DriverLease,
        peers: PeerDrivers,
        ledger: Ledger,
        journal: Journal,
    ) -> None:
        """Runs the loop; the last driver to leave closes the study's run."""
        spec = self.record.spec
        self.notify(plan_of(driver.summary(), spec, self.pool.size, self.epoch_s))
        if not self.stays and not has_free_slot(self.database, spec, ledger):
            peers.wait_for_each(self.stopped)  # a dead one may hold the slot that is left
        summary = None
        try:
            summary = driver.run()
            peers.wait_for_each(lambda: self.stopped() or not summary.done)
        finally:
            if lease.leave():
                journal.study_closed(summary)

    def _say(self, text: str) -> None:
        self.notify(SetupStep(text))

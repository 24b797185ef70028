"""Takes over what dead drivers left: their attempts, the spools of this home, the study's end.

A driver looks for dead peers while it runs (`PeerDrivers`). Commands that find a study without
a driver close what is left of it in this home (`recover_study`). All callers hold the home's
driver lock, so nobody else writes these spools.
"""

import time
from collections.abc import Callable, Container, Iterable
from contextlib import closing

from sqlalchemy import Connection, select, update

from tuner.clock import now_ms
from tuner.home import Home
from tuner.recording.journal import Journal
from tuner.recording.provenance import UNKNOWN
from tuner.recovery.retention import BestModels, remove_checkpoints
from tuner.search.trials import Trials
from tuner.storage.attempts import (
    Attempt,
    ClosedAttempt,
    Ledger,
    attempts_closed_at,
    close_attempts,
)
from tuner.storage.code_versions import CodeVersions
from tuner.storage.database import Database
from tuner.storage.drivers import DriverRecord, Drivers
from tuner.storage.studies import StudyRecord
from tuner.storage.tables import drivers
from tuner.study.summary import StudySummary, summarise
from tuner.tracking.spool.shipped import survey
from tuner.tracking.spool.spool_events import DRIVER_DIED
from tuner.training.plan import Outcome
from tuner.words import count


class PeerDrivers:
    """Observes the other drivers of a study, and takes over the trials of dead ones."""

    def __init__(
        self,
        home: Home,
        database: Database,
        study: str,
        journal: Journal,
        say: Callable[[str], None],
        own_uid: str = "",
    ) -> None:
        """Watches every driver of the study except the caller's own, `own_uid`."""
        self._home = home
        self._database = database
        self._study = study
        self._journal = journal
        self._say = say
        self._own_uid = own_uid
        self._drivers = Drivers(database, study)
        self._looked = float("-inf")

    def close_leftovers(self, ledger: Ledger) -> None:
        """Takes over drivers that died on this machine, and finishes what they left here.

        Ends their spools, and stores the MLflow run ids that they did not.
        """
        self._take_over(driver for driver in self._drivers.registered() if driver.is_gone)
        own, attempts = self._drivers.of_home(self._home.uid), ledger.attempts()
        _end_spools(self._home, self._study, attempts, own, self._journal)
        _record_runs(self._home, self._study, attempts, ledger)

    def take_over_dead(self) -> None:
        """Takes over drivers that have gone silent.

        Queries the database several times in a lease, however often it is called.
        """
        now = time.monotonic()
        if now - self._looked >= self._drivers.pace_s:
            self._looked = now
            self._take_over(self._drivers.dead())

    def wait_for_each(self, stopped: Callable[[], bool], *, of_this_home: bool = False) -> bool:
        """Waits until every peer has left, sent a heartbeat or been taken over.

        That takes a lease at most, or two if the database's clock jumps back.

        Args:
            stopped: ends the wait early.
            of_this_home: whether to wait for the drivers of this home alone.

        Returns:
            Whether a driver was taken over.
        """
        silent: set[DriverRecord] | None = None
        any_died = False
        while not stopped():
            any_died |= self._take_over(self._drivers.dead())
            present = {
                each
                for each in self._peers(self._drivers.registered())
                if not of_this_home or each.home == self._home.uid
            }
            silent = present if silent is None else silent & present
            if not silent:
                break
            time.sleep(self._drivers.pace_s)
        return any_died

    def _peers(self, found: Iterable[DriverRecord]) -> list[DriverRecord]:
        return [driver for driver in found if driver.uid != self._own_uid]

    def _take_over(self, dead: Iterable[DriverRecord]) -> bool:
        any_ended = False
        for driver in self._peers(dead):
            closed = end_driver(self._database, self._study, driver)
            if closed is None:
                continue
            any_ended = True
            for attempt in closed:
                self._close(attempt, driver)
            if freed := sum(attempt.outcome is Outcome.INTERRUPTED for attempt in closed):
                trials = count(freed, "trial")
                self._say(f"took over {trials} of a driver on {driver.process.host} that died")
        return any_ended

    def _close(self, attempt: ClosedAttempt, driver: DriverRecord) -> None:
        """Ends the attempt's spool. An attempt of another home gets a spool here that says so."""
        folder = self._home.attempt(self._study, attempt.slot, attempt.number)
        if folder.exists() and driver.home in (self._home.uid, ""):
            _end_spool(self._home, self._study, attempt, self._journal)
        else:
            self._journal.attempt_abandoned(attempt)


def end_driver(database: Database, study: str, driver: DriverRecord) -> list[ClosedAttempt] | None:
    """Ends the row of a dead driver, which fences it, and closes the attempts it left open.

    Returns:
        The closed attempts, also when the answer of a first try was lost. None when another
        driver was quicker, or the dead one has returned and sent a heartbeat.
    """
    at_ms = now_ms()

    def once(connection: Connection) -> list[ClosedAttempt] | None:
        row = drivers.c.uid == driver.uid
        unchanged = drivers.c.last_heartbeat_ms == driver.last_heartbeat_ms
        ended = update(drivers).where(row, drivers.c.ended_ms.is_(None), unchanged)
        if connection.execute(ended.values(ended_ms=at_ms)).rowcount:
            close_attempts(connection, study, driver.uid, at_ms)
        if connection.execute(select(drivers.c.ended_ms).where(row)).scalar() != at_ms:
            return None
        return attempts_closed_at(connection, study, driver.uid, at_ms)

    return database.transact(once)


def recover_study(
    home: Home,
    database: Database,
    record: StudyRecord,
    say: Callable[[str], None],
    *,
    patient: bool = False,
) -> None:
    """Closes what dead drivers left open in this home, and the study if no driver is at work.

    Args:
        home: the home; the caller holds its driver lock.
        database: the study's database.
        record: the study.
        say: receives messages for people.
        patient: where events wait to be shipped, also wait for a heartbeat of drivers on other
            machines, see `PeerDrivers.wait_for_each`.

    Raises:
        RefusedError: the study was deleted meanwhile.
    """
    ledger, trials = Ledger(database, record.name), Trials(database, record.spec)
    versions = CodeVersions(database, record.name).all()
    opened = Journal(home, database, record, UNKNOWN, trials, versions, say=say)
    with closing(opened) as journal:
        peers = PeerDrivers(home, database, record.name, journal, say)
        peers.close_leftovers(ledger)
        everywhere = patient and survey(home.current_study(record.name)).pending > 0
        peers.wait_for_each(lambda: False, of_this_home=not everywhere)
        BestModels(home, record.spec, ledger, journal, trials.all())
        close_study(home, database, journal, ledger, summarise(record.spec, trials, ledger))


def close_study(
    home: Home,
    database: Database,
    journal: Journal,
    ledger: Ledger,
    summary: StudySummary,
    *,
    anew: bool = False,
) -> None:
    """Closes the study's own spool in this home, unless a driver is at work on the study.

    `anew` says that the study has changed since a spool may have been closed.
    """
    registry = Drivers(database, summary.study)
    if registry.registered():
        return
    if anew:
        journal.study_closed(summary)
    ends = [attempt.ended_ms for attempt in ledger.attempts() if attempt.ended_ms is not None]
    alone = registry.homes() <= {home.uid, ""}
    journal.ensure_closed(summary, ended_ms=max(ends, default=now_ms()), alone=alone)


def _record_runs(home: Home, study: str, attempts: Iterable[Attempt], ledger: Ledger) -> None:
    """Stores the MLflow run ids of attempts whose driver died before it could."""
    runs = survey(home.current_study(study)).runs
    for attempt in attempts:
        if attempt.run_id is None and attempt.uid in runs:
            ledger.name_run(attempt.uid, runs[attempt.uid])


def _end_spools(
    home: Home, study: str, attempts: Iterable[Attempt], own: Container[str], journal: Journal
) -> None:
    """Ends the spools that were left open in this home, with the outcomes in the ledger.

    `own` are the uids of this home's drivers. A spool of any other driver came here with a copy
    of its home. It gets an end without details, since the original home has them.
    """
    for attempt in attempts:
        if attempt.outcome is None:
            continue
        if attempt.driver in own:
            _end_spool(home, study, attempt, journal, attempt.ended_ms)
        else:
            journal.attempt_ended_elsewhere(attempt)
            _clear_checkpoints(home, study, attempt)


def _end_spool(
    home: Home,
    study: str,
    attempt: Attempt | ClosedAttempt,
    journal: Journal,
    ended_ms: int | None = None,
) -> None:
    """Ends the spool of an attempt that is over; `ended_ms` is None when it ended just now."""
    assert attempt.outcome is not None
    folder = home.attempt(study, attempt.slot, attempt.number)
    reason = DRIVER_DIED if attempt.outcome.hands_back else ""
    journal.attempt_ended(folder, attempt.outcome, None, reason, ended_ms)
    _clear_checkpoints(home, study, attempt)


def _clear_checkpoints(home: Home, study: str, attempt: Attempt | ClosedAttempt) -> None:
    if attempt.outcome is None or not attempt.outcome.hands_back:
        remove_checkpoints(home, study, attempt.slot, until=attempt.number)

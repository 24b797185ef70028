"""The other drivers of a study, as one driver sees them: dead ones are given up."""

import time
from collections.abc import Callable, Container, Iterable

from sqlalchemy import Connection, update

from tuner.clock import now_ms
from tuner.home import Home
from tuner.recording.journal import Journal
from tuner.recovery.retention import remove_checkpoints
from tuner.storage.attempts import (
    Attempt,
    ClosedAttempt,
    Ledger,
    attempts_closed_at,
    close_attempts,
)
from tuner.storage.database import Database
from tuner.storage.drivers import DriverRecord, Drivers, LeaseMonitor
from tuner.storage.tables import drivers
from tuner.tracking.spool.spool_events import DRIVER_DIED
from tuner.training.plan import Outcome
from tuner.words import count


def give_up(database: Database, study: str, member: DriverRecord) -> list[ClosedAttempt]:
    """Ends a dead driver's membership and closes what it left open.

    Returns:
        What was closed, also where the answer of a first try was lost; nothing where somebody
        else was quicker.
    """
    at_ms = now_ms()

    def once(connection: Connection) -> list[ClosedAttempt]:
        mine = drivers.c.uid == member.uid
        ended = update(drivers).where(mine, drivers.c.ended_ms.is_(None))
        if connection.execute(ended.values(ended_ms=at_ms)).rowcount:
            close_attempts(connection, study, member.uid, at_ms)
        return attempts_closed_at(connection, study, member.uid, at_ms)

    return database.transact(once)


def close_spools(
    home: Home, study: str, ledger: Ledger, own: Container[str], journal: Journal
) -> None:
    """Ends the spools that were left open in this home, as the ledger says.

    The caller holds the home's driver lock, so nobody else writes them. The spool of a driver
    that is not among the home's `own` came here with a copy of its home: it is ended without a word
    of what it does not know, since another one tells all.
    """
    for attempt in ledger.attempts():
        if attempt.outcome is None:
            continue
        if attempt.driver in own:
            end_spool(home, study, attempt, journal, attempt.ended_ms)
        else:
            journal.attempt_ended_elsewhere(attempt)
            _clear_checkpoints(home, study, attempt)


def end_spool(
    home: Home,
    study: str,
    attempt: Attempt | ClosedAttempt,
    journal: Journal,
    ended_ms: int | None = None,
) -> None:
    """Ends the spool in this home of an attempt that is over as that ended, now or before."""
    assert attempt.outcome is not None
    folder = home.attempt(study, attempt.slot, attempt.number)
    reason = DRIVER_DIED if attempt.outcome.hands_back else ""
    journal.attempt_ended(folder, attempt.outcome, None, reason, ended_ms)
    _clear_checkpoints(home, study, attempt)


def _clear_checkpoints(home: Home, study: str, attempt: Attempt | ClosedAttempt) -> None:
    if attempt.outcome is None or not attempt.outcome.hands_back:
        remove_checkpoints(home, study, attempt.slot, until=attempt.number)


class Neighbours:
    """Gives up the dead, so that their trials go on here or with another driver."""

    def __init__(
        self,
        home: Home,
        database: Database,
        study: str,
        journal: Journal,
        say: Callable[[str], None],
        but: str = "",
    ) -> None:
        """Looks at every driver of the study `but` the one of that uid.

        The caller holds the home's driver lock.
        """
        self._home = home
        self._database = database
        self._study = study
        self._journal = journal
        self._say = say
        self._but = but
        self._members = Drivers(database, study)
        self._watch = LeaseMonitor(self._members, home=home.uid)
        self._looked = float("-inf")

    def clear_up(self, ledger: Ledger) -> None:
        """Finishes what is known to have died on this machine, and this home's spools of it."""
        self._give_up(member for member in self._members.registered() if member.is_gone)
        own = self._members.of_home(self._home.uid)
        close_spools(self._home, self._study, ledger, own, self._journal)

    def look(self) -> None:
        """Gives up who has fallen silent; asks the database several times in a lease."""
        now = time.monotonic()
        if now - self._looked >= self._watch.pace_s:
            self._looked = now
            self._give_up(self._watch.dead())

    def settle(self, stopped: Callable[[], bool], *, of_this_home: bool = False) -> bool:
        """Waits until every other driver has left, beaten or been given up; whether one was.

        That takes a lease at most. With `of_this_home` it waits for drivers of this home alone,
        half a lease at most.
        """
        first: dict[str, int] = {}
        given_up = False
        while not stopped():
            dead = self._watch.dead()
            given_up |= self._give_up(dead)
            present = self._members.registered()
            others = [member for member in present if member.uid != self._but]
            if of_this_home:
                others = [member for member in others if member.home == self._home.uid]
            if not [m for m in others if first.setdefault(m.uid, m.beats) == m.beats]:
                break
            time.sleep(self._watch.pace_s)
        return given_up

    def _give_up(self, dead: Iterable[DriverRecord]) -> bool:
        others = [member for member in dead if member.uid != self._but]
        for member in others:
            closed = give_up(self._database, self._study, member)
            for attempt in closed:
                self._close(attempt, member)
            if freed := sum(attempt.outcome is Outcome.INTERRUPTED for attempt in closed):
                trials = count(freed, "trial")
                self._say(f"took over {trials} of a driver on {member.process.host} that died")
        return bool(others)

    def _close(self, attempt: ClosedAttempt, member: DriverRecord) -> None:
        """Ends an attempt's spool here, which tells of it alone where it was made elsewhere."""
        folder = self._home.attempt(self._study, attempt.slot, attempt.number)
        if folder.exists() and member.home in (self._home.uid, ""):
            end_spool(self._home, self._study, attempt, self._journal)
        else:
            self._journal.attempt_abandoned(
                attempt.slot, attempt.number, attempt.uid, attempt.outcome
            )

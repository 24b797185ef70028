"""Finishes what dead drivers left open: their trials go on with living ones.

Everything about a dead driver changes in one transaction: its membership ends, which fences
it, and its attempts are closed, which frees their slots. A driver that dies in the
middle of it has done nothing.
"""

import time
from collections.abc import Container

from sqlalchemy import Connection, update

from tuner.home import Home
from tuner.study.checkpoints import remove_checkpoints
from tuner.study.database import Database
from tuner.study.journal import Journal
from tuner.study.ledger import HANDED_BACK, Attempt, Ledger
from tuner.study.leftovers import Closed, close_attempts, closed_at
from tuner.study.members import Member
from tuner.study.tables import drivers
from tuner.tracking.events import DRIVER_DIED


def give_up(database: Database, study: str, member: Member) -> list[Closed]:
    """Ends a dead driver's membership and closes what it left open.

    Returns:
        What was closed, also where the answer of a first try was lost; nothing where somebody
        else was quicker.
    """
    at_ms = time.time_ns() // 1_000_000

    def once(connection: Connection) -> list[Closed]:
        mine = drivers.c.uid == member.uid
        ended = update(drivers).where(mine, drivers.c.ended_ms.is_(None))
        if connection.execute(ended.values(ended_ms=at_ms)).rowcount:
            close_attempts(connection, study, member.uid, at_ms)
        return closed_at(connection, study, member.uid, at_ms)

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
    attempt: Attempt | Closed,
    journal: Journal,
    ended_ms: int | None = None,
) -> None:
    """Ends the spool in this home of an attempt that is over as that ended, now or before."""
    assert attempt.outcome is not None
    folder = home.attempt(study, attempt.slot, attempt.number)
    reason = DRIVER_DIED if attempt.outcome in HANDED_BACK else ""
    journal.attempt_ended(folder, attempt.outcome, None, reason, ended_ms)
    _clear_checkpoints(home, study, attempt)


def _clear_checkpoints(home: Home, study: str, attempt: Attempt | Closed) -> None:
    if attempt.outcome not in HANDED_BACK:
        remove_checkpoints(home, study, attempt.slot, until=attempt.number)

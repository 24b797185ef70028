"""Finishes what dead drivers left open: their trials go on with whoever lives.

Everything about a dead driver changes in one transaction: its membership ends, which fences
it, and its attempts are closed, which frees their slots. Whoever does this and dies in the
middle of it has done nothing.
"""

import time

from sqlalchemy import Connection, update

from tuner.home import Home
from tuner.study.checkpoints import remove_checkpoints
from tuner.study.database import Database
from tuner.study.journal import Journal
from tuner.study.ledger import HANDED_BACK, Attempt, Ledger
from tuner.study.leftovers import Closed, close_attempts, closed_at
from tuner.study.members import Member
from tuner.study.tables import drivers


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


def close_spools(home: Home, study: str, ledger: Ledger, journal: Journal) -> None:
    """Ends the spools that dead drivers of this home left open, as the ledger says.

    Whoever calls holds the home's driver lock, so nobody else writes them.
    """
    for attempt in ledger.attempts():
        end_spool(home, study, attempt, journal)


def end_spool(home: Home, study: str, attempt: Attempt | Closed, journal: Journal) -> None:
    """Ends the attempt's spool in this home as the attempt ended, if it is over."""
    if attempt.outcome is None:
        return
    folder = home.attempt(study, attempt.slot, attempt.number)
    handed_back = attempt.outcome in HANDED_BACK
    ended_ms = attempt.ended_ms if isinstance(attempt, Attempt) else None
    reason = "its driver died" if handed_back else ""
    journal.attempt_ended(folder, attempt.outcome, None, reason, ended_ms)
    if not handed_back:
        remove_checkpoints(home, study, attempt.slot, until=attempt.number)

"""The ledger of attempts: which driver tries which slot, so that N slots give exactly N trials.

A driver claims a slot by inserting the slot's next attempt; the primary key allows only one of
several drivers to do so. A slot is done when an attempt has a final outcome. It is free again
when an attempt handed it back.
"""

import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import Connection, Select, bindparam, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from tuner.clock import now_ms
from tuner.errors import RefusedError
from tuner.spec.search_space import Scalar
from tuner.storage.database import Database
from tuner.storage.tables import (
    OPTUNA_TRIALS,
    attempts,
    intact,
    queued_points,
    rows_of_slot,
    studies,
)
from tuner.training.plan import Outcome

OPTUNA_STATES: dict[Outcome, TrialState] = {
    Outcome.COMPLETED: TrialState.COMPLETE,
    Outcome.PRUNED: TrialState.PRUNED,
    Outcome.FAILED: TrialState.FAIL,
}
"""The state that Optuna's row of a trial ends in. It stays RUNNING for the other outcomes."""


def outcome_of(state: TrialState) -> Outcome | None:
    """The outcome that a row of Optuna's has ended with; None while it runs or waits."""
    return next((outcome for outcome, ended in OPTUNA_STATES.items() if ended is state), None)


@dataclass(frozen=True)
class Attempt:
    """One row of the ledger."""

    slot: int
    number: int
    uid: str
    driver: str
    """The uid of the driver that made the attempt."""
    outcome: Outcome | None
    run_id: str | None
    started_ms: int
    ended_ms: int | None

    @property
    def handed_back(self) -> bool:
        """Whether the slot is free again."""
        return self.outcome is not None and self.outcome.hands_back

    @property
    def final(self) -> bool:
        """Whether the slot is done."""
        return self.outcome is not None and not self.handed_back


@dataclass(frozen=True)
class ClaimedSlot:
    """A slot that this driver may try."""

    slot: int
    number: int
    uid: str
    predecessor: str | None
    """The uid of the slot's previous attempt."""
    queued: dict[str, Scalar] = field(default_factory=dict)
    """The queued configuration that this slot took; may be partial or empty."""


@dataclass(frozen=True)
class ClosedAttempt:
    """An attempt that a dead driver had left open, after it was closed."""

    uid: str
    slot: int
    number: int
    outcome: Outcome
    """From the state of the Optuna trial; `interrupted` if the trial had not ended."""


_ALL = (
    select(attempts)
    .where(attempts.c.study == bindparam("study"))
    .order_by(attempts.c.slot, attempts.c.number)
)
"""Statements are made once: to make one takes longer than to execute it."""
_FROM_SLOT = _ALL.where(attempts.c.slot >= bindparam("slot"))
_OF_SLOT = _ALL.where(attempts.c.slot == bindparam("slot"))
_OPEN = (
    select(func.count())
    .select_from(attempts)
    .where(attempts.c.study == bindparam("study"), attempts.c.outcome.is_(None))
)
_QUEUED_FOR_SLOT = select(queued_points.c.params).where(
    queued_points.c.study == bindparam("study"), queued_points.c.slot == bindparam("slot")
)


def _each(_slot: int) -> bool:
    return True


class Ledger:
    """The attempts of one study."""

    def __init__(self, database: Database, study: str, driver: str | None = None) -> None:
        """Opens the ledger: for the driver with this uid, or only to read if it is None."""
        self._database = database
        self._study = study
        self._driver = driver
        self._settled = 0
        """All slots below this number are done and are not read again."""

    def attempts(self) -> list[Attempt]:
        """Every attempt, ordered by slot and number."""
        return self._database.transact(lambda one: self._attempts(one, _ALL))

    def latest(self) -> dict[int, Attempt]:
        """The newest attempt of each slot that has one."""
        return {attempt.slot: attempt for attempt in self.attempts()}

    def latest_of(self, slot: int) -> Attempt | None:
        """The newest attempt of one slot."""
        tried = self._database.transact(lambda one: self._attempts(one, _OF_SLOT, slot=slot))
        return tried[-1] if tried else None

    def open_attempts(self) -> int:
        """How many attempts are in progress, of all drivers."""
        mine = {"study": self._study}
        return self._database.transact(lambda one: int(one.execute(_OPEN, mine).scalar_one()))

    def has_free(self, slots: int, planned: Callable[[int], bool] = _each) -> bool:
        """Whether a slot is free: a planned one in [0, `slots`), or one that was handed back."""
        latest = self._database.transact(self._unsettled)
        return next(self._free(slots, planned, latest), None) is not None

    def claim(
        self,
        slots: int,
        ready: Callable[[int], bool],
        takes_queued: Callable[[int], bool],
        planned: Callable[[int], bool] = _each,
    ) -> ClaimedSlot | None:
        """Claims the first free slot. Returns None if there is none.

        Args:
            slots: how many slots the study has.
            ready: whether a slot may be tried yet.
            takes_queued: whether a slot takes the first queued configuration at its first
                attempt.
            planned: whether a slot may have its first attempt now.

        Raises:
            RefusedError: the study was deleted.
            UsageError: the queued configuration is damaged in the database.
        """
        uid = uuid.uuid4().hex

        def claim_once(connection: Connection) -> ClaimedSlot | None:
            latest = self._unsettled(connection)
            if mine := next((each for each in latest.values() if each.uid == uid), None):
                before = self._before(connection, mine)  # committed, but the answer was lost
                return self._claimed(connection, mine.slot, before, uid)
            free = self._free(slots, planned, latest)
            slot = next((slot for slot in free if ready(slot)), None)
            if slot is None:
                return None
            self._insert(connection, slot, latest.get(slot), uid, takes_queued(slot))
            return self._claimed(connection, slot, latest.get(slot), uid)

        while True:
            try:
                return self._database.transact(claim_once)
            except IntegrityError:  # another driver was faster: try again
                self._check_study()

    def close(self, uid: str, outcome: Outcome) -> bool:
        """Writes an attempt's outcome. Returns False if the attempt was closed already."""
        statement = (
            update(attempts)
            .where(attempts.c.uid == uid, attempts.c.outcome.is_(None))
            .values(outcome=outcome.value, ended_ms=now_ms())
        )
        return self._database.transact(lambda one: one.execute(statement).rowcount == 1)

    def name_run(self, uid: str, run_id: str) -> None:
        """Stores the id of an attempt's MLflow run."""
        statement = update(attempts).where(attempts.c.uid == uid).values(run_id=run_id)
        self._database.transact(lambda connection: connection.execute(statement))

    def enqueue(self, params: dict[str, Scalar]) -> None:
        """Queues a configuration; the next slot that has its first attempt takes it."""
        statement = insert(queued_points).values(study=self._study, params=params)
        self._database.transact(lambda connection: connection.execute(statement))

    def queued(self) -> int:
        """How many configurations are queued."""
        return len(self._database.transact(lambda one: one.execute(self._waiting()).all()))

    def _check_study(self) -> None:
        statement = select(studies.c.name).where(studies.c.name == self._study)
        if self._database.transact(lambda one: one.execute(statement).first()) is None:
            raise RefusedError(f"study {self._study!r} was deleted while it ran")

    def _attempts(
        self, connection: Connection, statement: Select[Any], **values: int
    ) -> list[Attempt]:
        rows = connection.execute(statement, {"study": self._study, **values})
        return [_attempt(row._mapping) for row in rows]

    def _unsettled(self, connection: Connection) -> dict[int, Attempt]:
        """The newest attempt of each slot that may still change. Does not read the done ones."""
        rows = self._attempts(connection, _FROM_SLOT, slot=self._settled)
        latest = {attempt.slot: attempt for attempt in rows}
        while (first := latest.get(self._settled)) and first.final:
            self._settled += 1
        return latest

    def _free(
        self, slots: int, planned: Callable[[int], bool], latest: dict[int, Attempt]
    ) -> Iterator[int]:
        """Yields the free slots. A slot with an attempt counts even beyond a lowered budget."""
        begun = max(latest, default=-1) + 1
        for slot in range(self._settled, max(slots, begun)):
            tried = latest.get(slot)
            if tried.handed_back if tried else slot < slots and planned(slot):
                yield slot

    def _insert(
        self,
        connection: Connection,
        slot: int,
        before: Attempt | None,
        uid: str,
        takes_queued: bool,
    ) -> None:
        assert self._driver is not None, "only a driver claims"
        number = 0 if before is None else before.number + 1
        values = {"study": self._study, "slot": slot, "number": number, "uid": uid}
        values |= {"driver": self._driver, "started_ms": now_ms()}
        connection.execute(insert(attempts).values(values))
        if takes_queued and before is None:
            self._assign_queued(connection, slot)

    def _before(self, connection: Connection, attempt: Attempt) -> Attempt | None:
        tried = self._attempts(connection, _OF_SLOT, slot=attempt.slot)
        return next((each for each in tried if each.number == attempt.number - 1), None)

    def _claimed(
        self, connection: Connection, slot: int, before: Attempt | None, uid: str
    ) -> ClaimedSlot:
        return ClaimedSlot(
            slot=slot,
            number=0 if before is None else before.number + 1,
            uid=uid,
            predecessor=None if before is None else before.uid,
            queued=self._assigned(connection, slot),
        )

    def _waiting(self) -> Any:
        return (
            select(queued_points.c.id)
            .where(queued_points.c.study == self._study, queued_points.c.slot.is_(None))
            .order_by(queued_points.c.id)
            .with_for_update()
        )

    def _assign_queued(self, connection: Connection, slot: int) -> None:
        first: Sequence[Any] | None = connection.execute(self._waiting()).first()
        if first is not None:
            where = queued_points.c.id == first[0]
            connection.execute(update(queued_points).where(where).values(slot=slot))

    def _assigned(self, connection: Connection, slot: int) -> dict[str, Scalar]:
        mine = {"study": self._study, "slot": slot}
        point = connection.execute(_QUEUED_FOR_SLOT, mine).scalar()
        return intact(point, f"study {self._study!r}: the point queued for slot {slot}") or {}


def attempts_by_study(
    connection: Connection, names: Collection[str]
) -> Mapping[str, list[Attempt]]:
    """Returns `Ledger.attempts` of each of these studies that has any, in one query."""
    statement = select(attempts).where(attempts.c.study.in_(names))
    ordered = statement.order_by(attempts.c.slot, attempts.c.number)
    found = defaultdict[str, list[Attempt]](list)
    for row in connection.execute(ordered):
        found[row.study].append(_attempt(row._mapping))
    return found


def close_attempts(connection: Connection, study: str, driver: str, at_ms: int) -> None:
    """Closes a driver's open attempts, with the outcomes that their Optuna trials have.

    An attempt whose trial has not ended becomes `interrupted`, which frees its slot.
    """
    left = select(attempts.c.uid, attempts.c.slot).where(
        attempts.c.study == study, attempts.c.driver == driver, attempts.c.outcome.is_(None)
    )
    for uid, slot in connection.execute(left).all():
        outcome = _told_outcome(connection, study, slot) or Outcome.INTERRUPTED
        ended = update(attempts).where(attempts.c.uid == uid)
        connection.execute(ended.values(outcome=outcome.value, ended_ms=at_ms))


def attempts_closed_at(
    connection: Connection, study: str, driver: str, at_ms: int
) -> list[ClosedAttempt]:
    """Returns a driver's attempts that were closed at this time, ordered by slot."""
    columns = (attempts.c.uid, attempts.c.slot, attempts.c.number, attempts.c.outcome)
    statement = select(*columns).where(
        attempts.c.study == study, attempts.c.driver == driver, attempts.c.ended_ms == at_ms
    )
    rows = connection.execute(statement.order_by(attempts.c.slot))
    return [
        ClosedAttempt(uid, slot, number, Outcome(outcome)) for uid, slot, number, outcome in rows
    ]


def _told_outcome(connection: Connection, study: str, slot: int) -> Outcome | None:
    """The outcome that the slot's Optuna trial has ended with; None if it has not ended.

    It is read from Optuna's tables, in the transaction that closes the attempt.
    """
    statement = rows_of_slot(OPTUNA_TRIALS.c.state, study, slot)
    state = connection.execute(statement).scalar()
    return outcome_of(TrialState[state]) if state else None


def _attempt(row: Any) -> Attempt:
    return Attempt(
        slot=row["slot"],
        number=row["number"],
        uid=row["uid"],
        driver=row["driver"],
        outcome=None if row["outcome"] is None else Outcome(row["outcome"]),
        run_id=row["run_id"],
        started_ms=row["started_ms"],
        ended_ms=row["ended_ms"],
    )

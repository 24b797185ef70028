"""The drivers of a study: each has a row, beats in it, and is fenced once it was given up.

A driver counts its row's `beats` up several times in every `lease_s` seconds. It is dead when
its process is gone from the machine on which both run, or when the one that watches has seen the
counter stand still for the lease of its own monotonic time while the database answered every
question: no clock is compared with another, and a database that was away kills nobody. Half the
lease is enough for one of the home whose driver lock the watcher holds: such a driver is dead
unless the disk was cloned, and a clone beats.

A driver that was given up may come back, for example after SIGSTOP. From the moment at which its
row ended it commits nothing: every transaction of its engine looks at the row before it commits.
"""

import json
import math
import os
import socket
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Self

from optuna.trial import TrialState
from sqlalchemy import Connection, column, event, insert, select, table, update
from sqlalchemy.exc import SQLAlchemyError

from tuner.clock import now_ms
from tuner.errors import RefusedError, SupersededError, TunerError
from tuner.storage.attempts import outcome_of
from tuner.storage.database import Database
from tuner.storage.tables import SLOT, attempts, drivers, studies
from tuner.training.plan import Outcome


@dataclass(frozen=True)
class ProcessId:
    """A process beyond doubt: a process number comes again, its start in one place does not."""

    host: str
    place: str
    """The boot of its machine and the namespace of process numbers, a container's own."""
    pid: int
    started: int
    """Clock ticks between the boot and its start; no clock that is set changes it."""

    def is_gone(self) -> bool:
        """Whether the process is known to be dead; one in another place never is."""
        here = this_process()
        if (self.host, self.place) != (here.host, here.place):
            return False
        try:
            return _start_ticks(self.pid) != self.started
        except PermissionError:
            return False
        except (FileNotFoundError, ProcessLookupError):
            return not _exists(self.pid)  # /proc may hide what other users run


@cache
def this_process() -> ProcessId:
    """The process that asks."""
    return ProcessId(
        host=socket.gethostname(),
        place=f"{_boot_id()} {Path('/proc/self/ns/pid').readlink()}",
        pid=os.getpid(),
        started=_start_ticks(os.getpid()),
    )


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _start_ticks(pid: int) -> int:
    """Field 22 of `/proc/PID/stat`, see proc_pid_stat(5); names before it may hold anything."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


_STUDIES = table("studies", column("study_id"), column("study_name"))
_TRIALS = table("trials", column("trial_id"), column("study_id"), column("state"))
_ATTRIBUTES = table(
    "trial_user_attributes", column("trial_id"), column("key"), column("value_json")
)
"""Optuna's own, as far as a row must be read in the transaction that closes its attempt."""


@dataclass(frozen=True)
class Closed:
    """An attempt that a dead driver had left open."""

    uid: str
    slot: int
    number: int
    outcome: Outcome
    """As its row was told; `interrupted` where it was not, and another attempt follows."""


def close_attempts(connection: Connection, study: str, driver: str, at_ms: int) -> None:
    """Closes a driver's open attempts as their rows were told, which frees the other slots."""
    left = select(attempts.c.uid, attempts.c.slot).where(
        attempts.c.study == study, attempts.c.driver == driver, attempts.c.outcome.is_(None)
    )
    for uid, slot in connection.execute(left).all():
        outcome = _told(connection, study, slot) or Outcome.INTERRUPTED
        ended = update(attempts).where(attempts.c.uid == uid)
        connection.execute(ended.values(outcome=outcome.value, ended_ms=at_ms))


def closed_at(connection: Connection, study: str, driver: str, at_ms: int) -> list[Closed]:
    """What was closed of a driver's attempts at that time."""
    columns = (attempts.c.uid, attempts.c.slot, attempts.c.number, attempts.c.outcome)
    statement = select(*columns).where(
        attempts.c.study == study, attempts.c.driver == driver, attempts.c.ended_ms == at_ms
    )
    return [
        Closed(uid, slot, number, Outcome(outcome))
        for uid, slot, number, outcome in connection.execute(statement.order_by(attempts.c.slot))
    ]


def _told(connection: Connection, study: str, slot: int) -> Outcome | None:
    """The outcome that the slot's row has ended with, if it has one and that has ended."""
    statement = (
        select(_TRIALS.c.state)
        .join(_STUDIES, _STUDIES.c.study_id == _TRIALS.c.study_id)
        .join(_ATTRIBUTES, _ATTRIBUTES.c.trial_id == _TRIALS.c.trial_id)
        .where(
            _STUDIES.c.study_name == study,
            _ATTRIBUTES.c.key == SLOT,
            _ATTRIBUTES.c.value_json == json.dumps(slot),
        )
    )
    state = connection.execute(statement).scalar()
    return outcome_of(TrialState[state]) if state else None


_BEATS_A_LEASE = 6
_PARTING_S = 1.0
"""How long the end of a membership waits for a beat that the database does not take."""
_LOOKS_A_LEASE = 10
_OWN_HOME = 1 / 2
"""Of a lease: how long a driver of the watcher's own home may be silent."""
_LONGEST_GAP = 1 / 3
"""Of a lease: a watcher that asked more rarely than that has not been watching."""
_LONGEST_PACE_S = 5.0
"""How long a driver that has just come may go unseen."""

_PRESENT = select(drivers).where(drivers.c.ended_ms.is_(None)).order_by(drivers.c.id)


@dataclass(frozen=True)
class Member:
    """A driver that may write."""

    id: int
    """Lower for those who came earlier."""
    uid: str
    home: str
    """The id of its state folder."""
    process: ProcessId
    lease_s: float
    beats: int

    @property
    def is_gone(self) -> bool:
        """Whether it is known to be dead without being watched.

        One whose home nobody wrote down was stopped before the database was upgraded.
        """
        return not self.home or self.process.is_gone()


class Members:
    """The drivers of one study."""

    def __init__(self, database: Database, study: str) -> None:
        self._database = database
        self._study = study

    def present(self) -> list[Member]:
        """Those who may write, dead or alive, in the order in which they came."""
        statement = _PRESENT.where(drivers.c.study == self._study)
        rows = self._database.transact(lambda one: one.execute(statement).all())
        return [_member(row._mapping) for row in rows]

    def homes(self) -> set[str]:
        """The state folders whose drivers have ever been members."""
        statement = select(drivers.c.home).where(drivers.c.study == self._study).distinct()
        return set(self._database.transact(lambda one: one.execute(statement).scalars().all()))

    def hosts(self) -> dict[str, str]:
        """The machine of every driver that has ever been a member, by the driver's uid."""
        return self._database.transact(lambda one: hosts_by_driver(one, [self._study]))

    def of_home(self, home: str) -> set[str]:
        """The drivers that ever worked in the home of that id, or whose home nobody wrote down."""
        theirs = drivers.c.study == self._study, drivers.c.home.in_((home, ""))
        statement = select(drivers.c.uid).where(*theirs)
        return set(self._database.transact(lambda one: one.execute(statement).scalars().all()))


def present_by_study(connection: Connection) -> dict[str, list[Member]]:
    """What `Members.present` tells, of every study that has such drivers."""
    found = defaultdict[str, list[Member]](list)
    for row in connection.execute(_PRESENT):
        found[row.study].append(_member(row._mapping))
    return found


def hosts_by_driver(connection: Connection, names: Collection[str]) -> dict[str, str]:
    """The machine of every driver that has ever been a member of the studies, by its uid."""
    statement = select(drivers.c.uid, drivers.c.host).where(drivers.c.study.in_(names))
    return {row.uid: row.host for row in connection.execute(statement)}


class Watch:
    """Tells by its own clock which drivers have fallen silent."""

    def __init__(
        self, members: Members, clock: Callable[[], float] = time.monotonic, home: str = ""
    ) -> None:
        """Begins to watch; `home` is the id of the home whose driver lock is held, if any."""
        self._members = members
        self._clock = clock
        self._home = home
        self._asked = -math.inf
        self._present: list[Member] = []
        self._seen: dict[str, tuple[int, float]] = {}
        """By driver: its counter, and since when it has stood still."""

    def silent(self) -> list[Member]:
        """Those who are dead, to be asked several times in a lease.

        A database that does not answer makes the watch begin anew.
        """
        try:
            present = self._members.present()
        except SQLAlchemyError:
            self._seen.clear()
            return []
        self._present = present
        now = self._clock()
        gap, self._asked = now - self._asked, now
        seen, self._seen = self._seen, {}
        for member in present:
            beats, since = seen.get(member.uid, (-1, now))
            fresh = member.beats != beats or gap > member.lease_s * _LONGEST_GAP
            self._seen[member.uid] = (member.beats, now if fresh else since)
        return [each for each in present if each.is_gone or self._is_over(each, now)]

    def living(self) -> list[Member]:
        """Those who are not dead, once each of the watcher's own home has beaten or is silent."""
        first: dict[str, int] = {}
        while True:
            dead = {member.uid for member in self.silent()}
            present = [member for member in self._members.present() if member.uid not in dead]
            own = [member for member in present if member.home == self._home]
            if not [m for m in own if first.setdefault(m.uid, m.beats) == m.beats]:
                return present
            time.sleep(self.pace_s)

    @property
    def pace_s(self) -> float:
        """How long to wait at most before asking again."""
        return min([_LONGEST_PACE_S, *(each.lease_s / _LOOKS_A_LEASE for each in self._present)])

    def _is_over(self, member: Member, now: float) -> bool:
        own = member.home == self._home
        return now - self._seen[member.uid][1] > member.lease_s * (_OWN_HOME if own else 1)


class Membership:
    """This process's own membership, from `with` to the end of the block.

    Inside, transactions on the database's engine raise `SupersededError` instead of
    committing once another driver has given this one up.
    """

    def __init__(self, database: Database, study: str, home: str, lease_s: float) -> None:
        self._database = database
        self._study = study
        self._home = home
        self._lease_s = lease_s
        self._stopping = threading.Event()
        self._led = False
        self.uid = uuid.uuid4().hex

    def leads(self) -> bool:
        """Whether none of those present came earlier: the leader speaks for the study."""
        present = Members(self._database, self._study).present()
        self._led = bool(present) and present[0].uid == self.uid
        return self._led

    def leave(self) -> bool:
        """Ends the membership; whether nobody else is a member then.

        Of drivers that leave at the same time exactly one hears so. Where the database is
        away, it is the one that led last.
        """
        self._stopping.set()
        self._heart.join(_PARTING_S)
        if event.contains(self._database.engine, "commit", self._check):
            event.remove(self._database.engine, "commit", self._check)
        try:
            with self._database.engine.begin() as connection:
                return self._leave(connection)
        except SQLAlchemyError:
            return self._led

    def __enter__(self) -> Self:
        process = this_process()
        row: dict[str, Any] = {"uid": self.uid, "study": self._study, "home": self._home}
        row |= {"host": process.host, "place": process.place, "pid": process.pid}
        row |= {"pid_started": process.started, "lease_s": self._lease_s, "beats": 0}
        row |= {"writes": 0, "started_ms": now_ms()}
        self._database.transact(partial(self._enrol, row))
        event.listen(self._database.engine, "commit", self._check)
        self._heart = threading.Thread(target=self._beat, name="heart", daemon=True)
        self._heart.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.leave()

    def _enrol(self, row: dict[str, Any], connection: Connection) -> None:
        known = select(drivers.c.id).where(drivers.c.uid == self.uid)
        if connection.execute(known).first() is None:
            connection.execute(insert(drivers).values(row))

    def _leave(self, connection: Connection) -> bool:
        study = select(studies.c.name).where(studies.c.name == self._study)
        connection.execute(study.with_for_update())  # those who leave do so one by one
        present = drivers.c.study == self._study, drivers.c.ended_ms.is_(None)
        mine = update(drivers).where(*present, drivers.c.uid == self.uid)
        connection.execute(mine.values(ended_ms=now_ms()))
        # None are open, unless handing back has failed.
        close_attempts(connection, self._study, self.uid, now_ms())
        others = select(drivers.c.id).where(*present, drivers.c.uid != self.uid)
        return connection.execute(others).first() is None

    def _beat(self) -> None:
        """A beat that the database does not take is one missed, no more."""
        beat = update(drivers).where(drivers.c.uid == self.uid).values(beats=drivers.c.beats + 1)
        while not self._stopping.wait(self._lease_s / _BEATS_A_LEASE):
            try:
                with self._database.engine.begin() as connection:
                    connection.execute(beat)
            except SQLAlchemyError:
                continue
            except TunerError:
                return  # the driver hears of it at its own next transaction

    def _check(self, connection: Connection) -> None:
        """Holds the row until the commit, so that nobody ends it in between."""
        statement = select(drivers.c.ended_ms).where(drivers.c.uid == self.uid)
        row = connection.execute(statement.with_for_update(read=True)).one_or_none()
        if row is None:
            raise RefusedError(f"study {self._study!r} was deleted while it ran")
        if row[0] is not None:
            raise SupersededError(
                f"study {self._study!r}: this driver was not heard of for {self._lease_s:g} s, so "
                "others went on with its trials"
            )


def _member(row: Any) -> Member:
    return Member(
        id=row["id"],
        uid=row["uid"],
        home=row["home"],
        process=ProcessId(row["host"], row["place"], row["pid"], row["pid_started"]),
        lease_s=row["lease_s"],
        beats=row["beats"],
    )

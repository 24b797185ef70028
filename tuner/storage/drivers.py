"""The drivers of a study: their rows, heartbeats and leases, and the fence around each.

A driver sends heartbeats: six times per lease (`lease_s` seconds) it writes the database's own time
into its row. It is overdue when its last heartbeat is more than half a lease away from the
database's time. Whether it is overdue is part of every query of drivers.

A driver is dead in one of two cases:

- Its process is gone. Only a process on the same machine can tell.
- It is overdue, and for another half lease the observer has seen no new heartbeat. After a
  database outage or a jump of the database's clock every driver is overdue. But then the
  drivers that live send new heartbeats, so none of them is declared dead.

The observer measures the second half on its own monotonic clock, from the first query that finds
the driver overdue. The time between two of its queries counts as the time between two heartbeats at
most: the database may have been unavailable, or the observer stopped.

A driver that was taken over may return, for example after SIGSTOP. It is fenced: each of its
transactions reads its row before the commit, and fails if the row has ended.
"""

import logging
import os
import socket
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Row, Select, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from tuner.clock import now_ms
from tuner.errors import RefusedError, SupersededError, TunerError
from tuner.storage.attempts import close_attempts
from tuner.storage.database import Database, database_now_ms
from tuner.storage.tables import drivers, studies

_log = logging.getLogger(__name__)

_HEARTBEATS_PER_LEASE = 6
_LAST_HEARTBEAT_S = 1.0
"""How long `leave` waits for a heartbeat that the database does not accept."""
_RETRIES_PER_LEASE = 60
"""How often a driver repeats a heartbeat that the database does not accept."""
_OVERDUE = 1 / 2
"""Part of a lease: a driver whose last heartbeat is longer ago is overdue."""
_SILENCE = 1 / 2
"""Part of a lease: an overdue driver is dead after this time without a heartbeat."""
_QUERIES_PER_LEASE = 10
_LONGEST_PACE_S = 5.0
"""A new driver is noticed within this time."""


class DriverLease:
    """This process's own driver row, from `with` to the end of the block.

    Inside the block a thread sends heartbeats, and each transaction on the database's engine
    raises instead of committing:

    - `SupersededError` if another driver has taken this one over,
    - `RefusedError` if the study was deleted.
    """

    def __init__(self, database: Database, study: str, home: str, lease_s: float) -> None:
        """Writes nothing yet.

        Args:
            database: the study's database.
            study: the study's name.
            home: the id of the driver's home folder.
            lease_s: after this time without a heartbeat the driver may be taken over.
        """
        self._database = database
        self._study = study
        self._home = home
        self._lease_s = lease_s
        self._stopping = threading.Event()
        self._led = False
        self._left = False
        self.uid = uuid.uuid4().hex
        own_row = select(drivers.c.ended_ms).where(drivers.c.uid == self.uid)
        self._locked_row = own_row.with_for_update(read=True)  # once: every transaction reads it
        registered = select(drivers.c.uid).where(
            drivers.c.study == study, drivers.c.ended_ms.is_(None)
        )
        self._first_registered = registered.order_by(drivers.c.id).limit(1)

    def leads(self) -> bool:
        """Whether this driver is the first of the registered ones, and so writes for the study."""
        statement = self._first_registered
        first = self._database.transact(lambda one: one.execute(statement).scalar())
        self._led = first == self.uid
        return self._led

    def send_heartbeat(self) -> None:
        """Renews the lease.

        Raises:
            SQLAlchemyError: the database failed.
            TunerError: as every transaction of this driver.
        """
        heartbeat = update(drivers).where(drivers.c.uid == self.uid)
        with self._database.engine.begin() as connection:
            connection.execute(heartbeat.values(last_heartbeat_ms=database_now_ms()))

    def leave(self) -> bool:
        """Ends the row and closes its open attempts. Returns whether no other driver is left.

        If several drivers leave at the same time, exactly one of them gets True. If the database
        is unavailable, the result is whether this driver led when it was last asked.
        """
        self._stopping.set()
        self._heartbeat.join(_LAST_HEARTBEAT_S)
        self._database.remove_check(self._fence)
        try:
            with self._database.engine.begin() as connection:
                was_last = self._leave(connection)
        except SQLAlchemyError:
            return self._led
        self._left = True
        return was_last

    def __enter__(self) -> Self:
        process = this_process()
        row: dict[str, Any] = {"uid": self.uid, "study": self._study, "home": self._home}
        row |= {"host": process.host, "place": process.place, "pid": process.pid}
        row |= {"pid_started": process.started, "lease_s": self._lease_s}
        row |= {"last_heartbeat_ms": database_now_ms(), "started_ms": now_ms()}
        self._database.transact(partial(self._register, row))
        self._database.add_check(self._fence)
        self._heartbeat = threading.Thread(target=self._send_heartbeats, daemon=True)
        self._heartbeat.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if not self._left:
            self.leave()

    def _register(self, row: dict[str, Any], connection: Connection) -> None:
        known = select(drivers.c.id).where(drivers.c.uid == self.uid)
        if connection.execute(known).first() is None:
            connection.execute(insert(drivers).values(row))

    def _leave(self, connection: Connection) -> bool:
        study = select(studies.c.name).where(studies.c.name == self._study)
        connection.execute(study.with_for_update())  # one driver leaves at a time
        registered = drivers.c.study == self._study, drivers.c.ended_ms.is_(None)
        mine = update(drivers).where(*registered, drivers.c.uid == self.uid)
        connection.execute(mine.values(ended_ms=now_ms()))
        # Attempts are open here only if handing back the trials has failed.
        close_attempts(connection, self._study, self.uid, now_ms())
        others = select(drivers.c.id).where(*registered, drivers.c.uid != self.uid)
        return connection.execute(others).first() is None

    def _send_heartbeats(self) -> None:
        per_lease = _HEARTBEATS_PER_LEASE
        while not self._stopping.wait(self._lease_s / per_lease):
            try:
                self.send_heartbeat()
                per_lease = _HEARTBEATS_PER_LEASE
            except SQLAlchemyError:
                per_lease = _RETRIES_PER_LEASE
            except TunerError:
                return  # the driver gets the same error at its own next transaction
            except Exception:  # noqa: BLE001 - a driver without heartbeats is taken over
                per_lease = _RETRIES_PER_LEASE
                _log.exception("a driver of %s could not send a heartbeat; retrying", self._study)

    def _fence(self, connection: Connection) -> None:
        """Checks this driver's row and locks it until the commit, so that nobody ends it."""
        row = connection.execute(self._locked_row).one_or_none()
        if row is None:
            raise RefusedError(f"study {self._study!r} was deleted while it ran")
        if row[0] is not None:
            raise SupersededError(
                f"study {self._study!r}: this driver sent no heartbeat for {self._lease_s:g} s, "
                "so other drivers took over its trials"
            )


@dataclass(frozen=True)
class DriverRecord:
    """A driver whose row has not ended. It may write, and it may be dead.

    Two records of a driver are equal if it has sent no heartbeat between them.
    """

    id: int
    """Grows in the order in which drivers register."""
    uid: str
    study: str
    home: str
    """The id of its home folder."""
    process: "ProcessId"
    lease_s: float
    last_heartbeat_ms: int
    """The database's time at its last heartbeat."""
    is_overdue: bool = field(compare=False)
    """Whether it was overdue when the record was read."""

    @property
    def is_gone(self) -> bool:
        """Whether the driver is known to be dead without waiting for its lease.

        A driver without a home comes from an old version: `tuner db upgrade` needs it stopped.
        """
        return not self.home or self.process.is_gone()


class Drivers:
    """The drivers of some studies, and for how long this process has not heard from each."""

    def __init__(self, database: Database, *studies: str) -> None:
        self._database = database
        self._studies = studies
        self._theirs = drivers.c.study.in_(studies)
        self._registered = _registered().where(self._theirs)  # once: drivers ask all the time
        self._queried = time.monotonic()
        self._found: list[DriverRecord] = []
        """What `dead` has read last."""
        self._silent_s: dict[DriverRecord, float] = {}
        """Of these the overdue ones, and for how long `dead` has found each of them unchanged."""

    def registered(self) -> list[DriverRecord]:
        """The drivers whose rows have not ended, dead or alive, in the order of registration."""
        rows = self._database.transact(lambda one: one.execute(self._registered).all())
        return [_record(row) for row in rows]

    def dead(self) -> list[DriverRecord]:
        """Returns the dead drivers. Call it every `pace_s` seconds."""
        self._found, now = self.registered(), time.monotonic()
        passed, self._queried = now - self._queried, now
        before, self._silent_s = self._silent_s, {}
        for each in self._found:
            if each in before:
                more = min(passed, each.lease_s / _HEARTBEATS_PER_LEASE)
                self._silent_s[each] = before[each] + more
            elif each.is_overdue:
                self._silent_s[each] = 0.0
        return [
            each
            for each in self._found
            if each.is_gone or self._silent_s.get(each, 0.0) >= each.lease_s * _SILENCE
        ]

    def alive(self) -> list[DriverRecord]:
        """Returns the drivers that are not dead, at once if none of them is overdue.

        Waits half a lease at most for a new heartbeat of the others, of all at the same time.
        """
        first: set[DriverRecord] | None = None
        while True:
            dead = self.dead()
            living = [each for each in self._found if each not in dead]
            first = set(living) if first is None else first
            if not any(each in self._silent_s and each in first for each in living):
                return living
            time.sleep(self.pace_s)

    @property
    def pace_s(self) -> float:
        """The longest time to wait before the next call of `dead`, in seconds."""
        return min([_LONGEST_PACE_S, *(one.lease_s / _QUERIES_PER_LEASE for one in self._found)])

    def homes(self) -> set[str]:
        """The ids of all home folders whose drivers have ever worked on the studies."""
        statement = select(drivers.c.home).where(self._theirs).distinct()
        return set(self._database.transact(lambda one: one.execute(statement).scalars().all()))

    def hosts(self) -> dict[str, str]:
        """The host name of every driver that ever worked on the studies, by the driver's uid."""
        return self._database.transact(lambda one: hosts_by_driver(one, self._studies))

    def of_home(self, home: str) -> set[str]:
        """The uids of all drivers that ever worked in this home folder, or in an unknown one."""
        statement = select(drivers.c.uid).where(self._theirs, drivers.c.home.in_((home, "")))
        return set(self._database.transact(lambda one: one.execute(statement).scalars().all()))


def registered_by_study(connection: Connection) -> dict[str, list[DriverRecord]]:
    """Returns `Drivers.registered` of every study that has such drivers, in one query."""
    found = defaultdict[str, list[DriverRecord]](list)
    for row in connection.execute(_registered()):
        found[row.study].append(_record(row))
    return found


def hosts_by_driver(connection: Connection, names: Collection[str]) -> dict[str, str]:
    """Returns `Drivers.hosts` of all these studies together, in one query."""
    statement = select(drivers.c.uid, drivers.c.host).where(drivers.c.study.in_(names))
    return {row.uid: row.host for row in connection.execute(statement)}


@dataclass(frozen=True)
class ProcessId:
    """Identifies a process, even after its number was given to another process."""

    host: str
    place: str
    """The boot id of the machine and the namespace of process numbers (a container's own)."""
    pid: int
    started: int
    """Clock ticks from the boot to the start of the process. Setting the clock has no effect."""

    def is_gone(self) -> bool:
        """Whether the process is known to be dead; always False for one on another machine."""
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
    """The current process."""
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
    """Field 22 of `/proc/PID/stat`, see proc_pid_stat(5); the name before it may hold anything."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def _registered() -> Select[Any]:
    age_ms = func.abs(database_now_ms() - drivers.c.last_heartbeat_ms)  # the clock may jump back
    overdue = (age_ms > drivers.c.lease_s * 1000 * _OVERDUE).label("is_overdue")
    return select(drivers, overdue).where(drivers.c.ended_ms.is_(None)).order_by(drivers.c.id)


def _record(row: Row[Any]) -> DriverRecord:
    return DriverRecord(
        id=row.id,
        uid=row.uid,
        study=row.study,
        home=row.home,
        process=ProcessId(row.host, row.place, row.pid, row.pid_started),
        lease_s=row.lease_s,
        last_heartbeat_ms=row.last_heartbeat_ms,
        is_overdue=row.is_overdue,
    )

"""The drivers of a study: their rows, heartbeats and leases, and the fence around each.

A driver sends heartbeats: it increments `beats` in its row six times per lease (`lease_s`
seconds). A driver is dead in one of two cases:

- Its process is gone. Only a process on the same machine can tell.
- `beats` has not changed for one lease. The observer measures this on its own monotonic clock, so
  no two clocks are compared. It starts again if the database did not answer, so an unavailable
  database makes no driver look dead.

Half a lease is enough for a driver of the home folder whose lock the observer holds. Such a
driver is dead unless the disk was cloned, and the clone's driver sends heartbeats.

A driver that was taken over may return, for example after SIGSTOP. It is fenced: each of its
transactions reads its row before the commit, and fails if the row has ended.
"""

import math
import os
import socket
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, event, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from tuner.clock import now_ms
from tuner.errors import RefusedError, SupersededError, TunerError
from tuner.storage.attempts import close_attempts
from tuner.storage.database import Database
from tuner.storage.tables import drivers, studies

_HEARTBEATS_PER_LEASE = 6
_LAST_HEARTBEAT_S = 1.0
"""How long `leave` waits for a heartbeat that the database does not accept."""
_CHECKS_PER_LEASE = 10
_OWN_HOME = 1 / 2
"""Part of a lease after which a silent driver of the observer's own home is dead."""
_LONGEST_GAP = 1 / 3
"""Part of a lease: after a longer gap between two checks, the observer starts again."""
_LONGEST_PACE_S = 5.0
"""A new driver is noticed within this time."""

_REGISTERED = select(drivers).where(drivers.c.ended_ms.is_(None)).order_by(drivers.c.id)


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
        self.uid = uuid.uuid4().hex

    def leads(self) -> bool:
        """Whether this driver is the first of the registered ones, and so writes for the study."""
        registered = Drivers(self._database, self._study).registered()
        self._led = bool(registered) and registered[0].uid == self.uid
        return self._led

    def leave(self) -> bool:
        """Ends the row and closes its open attempts. Returns whether no other driver is left.

        If several drivers leave at the same time, exactly one of them gets True. If the database
        is unavailable, the result is whether this driver led when it was last asked.
        """
        self._stopping.set()
        self._heartbeat.join(_LAST_HEARTBEAT_S)
        if event.contains(self._database.engine, "commit", self._fence):
            event.remove(self._database.engine, "commit", self._fence)
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
        row |= {"started_ms": now_ms()}
        self._database.transact(partial(self._register, row))
        event.listen(self._database.engine, "commit", self._fence)
        self._heartbeat = threading.Thread(target=self._send_heartbeats, daemon=True)
        self._heartbeat.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
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
        heartbeat = update(drivers).where(drivers.c.uid == self.uid)
        heartbeat = heartbeat.values(beats=drivers.c.beats + 1)
        while not self._stopping.wait(self._lease_s / _HEARTBEATS_PER_LEASE):
            try:
                with self._database.engine.begin() as connection:
                    connection.execute(heartbeat)
            except SQLAlchemyError:
                continue  # one heartbeat is missing, no more
            except TunerError:
                return  # the driver gets the same error at its own next transaction

    def _fence(self, connection: Connection) -> None:
        """Checks this driver's row and locks it until the commit, so that nobody ends it."""
        statement = select(drivers.c.ended_ms).where(drivers.c.uid == self.uid)
        row = connection.execute(statement.with_for_update(read=True)).one_or_none()
        if row is None:
            raise RefusedError(f"study {self._study!r} was deleted while it ran")
        if row[0] is not None:
            raise SupersededError(
                f"study {self._study!r}: this driver sent no heartbeat for {self._lease_s:g} s, "
                "so other drivers took over its trials"
            )


@dataclass(frozen=True)
class DriverRecord:
    """A driver whose row has not ended. It may write, and it may be dead."""

    id: int
    """Grows in the order in which drivers register."""
    uid: str
    home: str
    """The id of its home folder."""
    process: "ProcessId"
    lease_s: float
    beats: int
    """The number of heartbeats so far."""

    @property
    def is_gone(self) -> bool:
        """Whether the driver is known to be dead without waiting for its lease.

        A driver without a home comes from an old version: `tuner db upgrade` needs it stopped.
        """
        return not self.home or self.process.is_gone()


class Drivers:
    """The drivers of one study."""

    def __init__(self, database: Database, study: str) -> None:
        self._database = database
        self._study = study

    def registered(self) -> list[DriverRecord]:
        """The drivers whose rows have not ended, dead or alive, in the order of registration."""
        statement = _REGISTERED.where(drivers.c.study == self._study)
        rows = self._database.transact(lambda one: one.execute(statement).all())
        return [_record(row._mapping) for row in rows]

    def homes(self) -> set[str]:
        """The ids of all home folders whose drivers have ever worked on the study."""
        statement = select(drivers.c.home).where(drivers.c.study == self._study).distinct()
        return set(self._database.transact(lambda one: one.execute(statement).scalars().all()))

    def hosts(self) -> dict[str, str]:
        """The host name of every driver that has ever worked on the study, by the driver's uid."""
        return self._database.transact(lambda one: hosts_by_driver(one, [self._study]))

    def of_home(self, home: str) -> set[str]:
        """The uids of all drivers that ever worked in this home folder, or in an unknown one."""
        theirs = drivers.c.study == self._study, drivers.c.home.in_((home, ""))
        statement = select(drivers.c.uid).where(*theirs)
        return set(self._database.transact(lambda one: one.execute(statement).scalars().all()))


def registered_by_study(connection: Connection) -> dict[str, list[DriverRecord]]:
    """Returns `Drivers.registered` of every study that has such drivers, in one query."""
    found = defaultdict[str, list[DriverRecord]](list)
    for row in connection.execute(_REGISTERED):
        found[row.study].append(_record(row._mapping))
    return found


def hosts_by_driver(connection: Connection, names: Collection[str]) -> dict[str, str]:
    """Returns `Drivers.hosts` of all these studies together, in one query."""
    statement = select(drivers.c.uid, drivers.c.host).where(drivers.c.study.in_(names))
    return {row.uid: row.host for row in connection.execute(statement)}


class LeaseMonitor:
    """Observes the heartbeats of a study's drivers and tells which drivers are dead."""

    def __init__(
        self, registry: Drivers, clock: Callable[[], float] = time.monotonic, home: str = ""
    ) -> None:
        """Starts to observe.

        Args:
            registry: the drivers of the study.
            clock: a monotonic clock, in seconds.
            home: the id of the home folder whose driver lock this process holds, if any.
        """
        self._registry = registry
        self._clock = clock
        self._home = home
        self._checked = -math.inf
        self._registered: list[DriverRecord] = []
        self._seen: dict[str, tuple[int, float]] = {}
        """For each driver: its heartbeat count, and the time of its last change."""

    def dead(self) -> list[DriverRecord]:
        """Returns the dead drivers. Call it every `pace_s` seconds.

        If the database does not answer, it returns none and the observation starts again.
        """
        try:
            registered = self._registry.registered()
        except SQLAlchemyError:
            self._seen.clear()
            return []
        self._registered = registered
        now = self._clock()
        gap, self._checked = now - self._checked, now
        seen, self._seen = self._seen, {}
        for driver in registered:
            beats, since = seen.get(driver.uid, (-1, now))
            fresh = driver.beats != beats or gap > driver.lease_s * _LONGEST_GAP
            self._seen[driver.uid] = (driver.beats, now if fresh else since)
        return [each for each in registered if each.is_gone or self._has_expired(each, now)]

    def alive(self) -> list[DriverRecord]:
        """Returns the drivers that are not dead.

        Waits until each driver of the observer's own home has sent a heartbeat or is dead.
        """
        for check in self.checks():
            if not any(driver.home == self._home for driver in check.undecided):
                break
        return check.alive + check.undecided

    def any_alive(self) -> bool:
        """Waits until a driver sends a heartbeat, or until all are dead. Returns which it was."""
        return next(bool(each.alive) for each in self.checks() if each.alive or not each.undecided)

    def checks(self, stopped: Callable[[], bool] = lambda: False) -> Iterator["DriverCheck"]:
        """Checks the drivers again and again, with pauses, until the caller has seen enough.

        After a lease no driver is undecided, except those that have registered meanwhile.
        """
        first: dict[str, int] = {}
        while not stopped():
            dead = self.dead()
            ended = {driver.uid for driver in dead}
            others = [driver for driver in self._registry.registered() if driver.uid not in ended]
            alive = [one for one in others if first.setdefault(one.uid, one.beats) != one.beats]
            undecided = [one for one in others if one not in alive]
            yield DriverCheck(dead, alive, undecided)
            time.sleep(self.pace_s)

    @property
    def pace_s(self) -> float:
        """The longest time to wait before the next check, in seconds."""
        paces = (each.lease_s / _CHECKS_PER_LEASE for each in self._registered)
        return min([_LONGEST_PACE_S, *paces])

    def _has_expired(self, driver: DriverRecord, now: float) -> bool:
        own = driver.home == self._home
        return now - self._seen[driver.uid][1] > driver.lease_s * (_OWN_HOME if own else 1)


@dataclass(frozen=True)
class DriverCheck:
    """The drivers of a study at one of several checks."""

    dead: list[DriverRecord]
    alive: list[DriverRecord]
    """Those that have sent a heartbeat since the first check."""
    undecided: list[DriverRecord]
    """Those that have not, and are not dead yet."""


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


def _record(row: Any) -> DriverRecord:
    return DriverRecord(
        id=row["id"],
        uid=row["uid"],
        home=row["home"],
        process=ProcessId(row["host"], row["place"], row["pid"], row["pid_started"]),
        lease_s=row["lease_s"],
        beats=row["beats"],
    )

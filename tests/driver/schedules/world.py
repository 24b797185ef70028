"""One study on the stage, and what befalls its drivers."""

from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import update

from tests.bench import Bench
from tests.driver.schedules.schedule import Fate
from tests.driver.schedules.stage import HEARTBEAT_S, Stage
from tests.driver.schedules.stepped_driver import SteppedDriver
from tuner.errors import SupersededError
from tuner.spec.study_spec import StudySpec
from tuner.storage.attempts import Attempt
from tuner.storage.studies import StudyRecord
from tuner.storage.tables import drivers
from tuner.tracking.spool.spool import FILE_NAME

EVENT_S = 2.0
"""How much time passes from event to event."""
HOUR_S = 3600.0
FROZEN_BEATS = 8
"""Heartbeats that a frozen driver does not send: its lease of six ends, and the others see it."""


@dataclass
class World:
    """One study in the stage's database, with a driver in each home now and then."""

    stage: Stage
    record: StudyRecord
    drivers: dict[int, SteppedDriver] = field(default_factory=dict)
    dead: list[SteppedDriver] = field(default_factory=list)
    unclosed: set[int] = field(default_factory=set)
    """Homes in which a driver was killed, and no other has left since."""
    done: bool = False
    """Whether every trial has ended, as a driver that left has found."""

    @property
    def bench(self) -> Bench:
        return self.stage.bench

    @property
    def spec(self) -> StudySpec:
        return self.record.spec

    def take(self, home: int, fate: Fate) -> None:
        """A step of the home's driver, which begins where there is none.

        Heartbeats that are due are sent before it, but not while the database is away.
        """
        clocks = self.stage.clocks
        if fate == "clock jumps":
            clocks.ahead += -HOUR_S if clocks.ahead > 1e9 else HOUR_S
        elif fate == "database is away":
            clocks.now += HOUR_S
        else:
            clocks.sleep(EVENT_S)
        driver = self.drivers.get(home)
        if driver is None:
            driver = self.drivers[home] = self.stage.join(home, self.record)
        elif fate in ("kill", "kill while it writes"):
            self._kill(home)
            if fate != "kill":
                self._tear(home)
            return
        elif fate == "freeze":
            self._freeze(home)
            driver.take("go on")
        else:
            driver.take(fate)
        if driver.over:
            self._leave(home)

    def _leave(self, home: int) -> None:
        driver = self.drivers.pop(home)
        self.dead.append(driver)
        if isinstance(driver.error, SupersededError):
            self.unclosed.add(home)
        elif driver.error is not None:
            raise driver.error
        else:
            assert driver.summary is not None
            self.done |= driver.summary.done
            self.unclosed.discard(home)

    def finish(self) -> None:
        """The drivers leave, some told to stop. Then others do what is left, where it is left."""
        self._let_leave()
        for home in sorted(self.unclosed if self.done else self.unclosed | {0}):
            self.take(home, "go on")
        self._let_leave()

    def _let_leave(self) -> None:
        while self.drivers:
            for home in list(self.drivers):
                self.take(home, "go on")

    def _kill(self, home: int) -> None:
        """Others on this machine see that the process is gone."""
        driver = self.drivers.pop(home)
        self.dead.append(driver)
        self.unclosed.add(home)
        mine = drivers.c.study == self.spec.name, drivers.c.home == driver.bench.home.uid
        gone = update(drivers).where(*mine, drivers.c.ended_ms.is_(None)).values(pid_started=-1)
        with self.bench.database.engine.begin() as connection:
            connection.execute(gone)

    def _freeze(self, home: int) -> None:
        """As SIGSTOP and SIGCONT do, longer than a lease apart, while the others go on."""
        self.stage.frozen = self.stage.homes[home].uid
        for _ in range(FROZEN_BEATS):
            self.stage.clocks.sleep(HEARTBEAT_S)
            for other in self.drivers.keys() - {home}:
                self.take(other, "go on")
        self.stage.frozen = ""

    def _tear(self, home: int) -> None:
        """Leaves half a line in the spools of its attempts, as a write that was cut short does."""
        for attempt in self.bench.ledger(self.spec).attempts():
            spool = self.folder(home, attempt) / FILE_NAME
            if attempt.outcome is None and spool.exists():
                with spool.open("ab") as file:
                    file.write(b'{"kind": "epoch-')

    def folder(self, home: int, attempt: Attempt) -> Path:
        return self.stage.homes[home].attempt(self.spec.name, attempt.slot, attempt.number)

    def close(self) -> None:
        for driver in [*self.dead, *self.drivers.values()]:
            self.stage.bury(driver)

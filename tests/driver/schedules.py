"""Whole studies on a pool that follows a script, with drivers and trainers that die at any moment.

    python -m tests.driver.schedules [--seconds 60] [--seed N]

Hypothesis generates the schedules: how large the study is, which driver goes on next, and what
befalls it. A driver runs in a thread of its own, from one event to the next, and only one at a
time. A killed one never goes on. The drivers, the ledger, the trials and the journal are those of
the program; databases and spools are real files. Only the pool and the clocks are not.

The command runs schedules on every core for a minute, and says how many it ran.
"""

import argparse
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Literal, get_args

from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st
from optuna.storages._rdb.models import BaseModel
from rich.console import Console
from sqlalchemy import bindparam, update

from tests.bench import Bench, Clocks, ScriptedPool, simulated_clocks, small_study, unseen_dataset
from tuner.errors import SupersededError
from tuner.home import Home
from tuner.spec.study_spec import StudySpec
from tuner.startup import configure_process
from tuner.storage import tables
from tuner.storage.attempts import Attempt
from tuner.storage.code_versions import CodeVersions
from tuner.storage.database import Database
from tuner.storage.opening import open_database
from tuner.storage.studies import StudyRecord
from tuner.storage.tables import drivers
from tuner.study.summary import StudySummary
from tuner.tracking.shipping.steps import steps
from tuner.tracking.spool.spool import FILE_NAME, read_lines
from tuner.workers.devices import usable_cores
from tuner.workers.pool import PoolEvent

HOMES = 2
MAX_RETRIES = 1
Fate = Literal[
    "go on",
    "trainer dies",
    "trial fails",
    "kill",
    "kill while it writes",
    "freeze",
    "stop",
    "clock jumps",
    "database is away",
]
EVENT_S = 2.0
"""How much time passes from event to event."""
HEARTBEAT_S = 10.0
HOUR_S = 3600.0
FROZEN_BEATS = 8
"""Heartbeats that a frozen driver does not send: its lease of six ends, and the others see it."""
STATUS = {
    "completed": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "lost": "KILLED",
}
_TABLES = [
    table.name
    for metadata in (tables.metadata, BaseModel.metadata)
    for table in reversed(metadata.sorted_tables)
    if table.name not in ("alembic_version", "version_info")
]
"""The tables of the database, those first that refer to others."""
_BATCH = 20
"""After so many schedules the command begins with another seed and an empty folder."""


@dataclass(frozen=True)
class Step:
    """What a home's driver does next: some events, and then what befalls it."""

    home: int
    events: int
    fate: Fate

    @property
    def fates(self) -> list[Fate]:
        before: list[Fate] = ["go on"] * self.events
        return [*before, self.fate]


@dataclass(frozen=True)
class Schedule:
    """One study and what happens in it."""

    trials: int
    epochs: int
    steps: tuple[Step, ...]


FATES: list[Fate] = list(get_args(Fate))
SIZES = st.sampled_from([1, 1, 1, 1, 2, 3])
"""Of studies, in trials and epochs: nearly all that can go wrong does so in small ones."""
STEPS = st.builds(Step, st.integers(0, HOMES - 1), st.integers(0, 4), st.sampled_from(FATES))
SCHEDULES = st.builds(Schedule, SIZES, SIZES, st.lists(STEPS, max_size=12).map(tuple))
ALL_STOPPED = Schedule(3, 2, (Step(0, 4, "go on"), Step(0, 0, "stop"), Step(1, 1, "stop")))
"""Each driver has been told to stop and has not left when the schedule ends."""


class Killed(BaseException):
    """Ends the thread of a driver that was killed, once everything has been checked."""


@dataclass
class SteppedPool(ScriptedPool):
    """A pool whose driver waits before each event until it is that driver's turn."""

    wait: Callable[[], None] = lambda: None
    fate: Fate = "go on"
    """What befalls the trial that is the next one to be heard of."""

    def next_event(self, timeout_s: float) -> PoolEvent | None:
        self.wait()
        fate, self.fate = self.fate, "go on"
        self.dies = lambda _plan: fate == "trainer dies"
        self.fails = lambda _plan: fate == "trial fails"
        return super().next_event(timeout_s)


class Driver:
    """A driver in a home, with a connection of its own."""

    def __init__(self, bench: Bench, record: StudyRecord) -> None:
        self.bench = bench
        self.over = False
        self.error: BaseException | None = None
        self.summary: StudySummary | None = None
        """What it has come to, once it has left."""
        self._record = record
        self._pool = SteppedPool(size=min(2, record.spec.trials), wait=self._wait)
        self._stopping = self._killed = False
        self._turn, self._paused = SimpleQueue[None](), SimpleQueue[None]()
        self._thread = threading.Thread(target=self._drive, daemon=True)
        self._thread.start()
        self._paused.get()

    def take(self, fate: Fate) -> None:
        """Lets it work until something happens, or it has ended."""
        self._stopping |= fate == "stop"
        if fate in ("trainer dies", "trial fails"):
            self._pool.fate = fate
        self._turn.put(None)
        self._paused.get()

    def bury(self) -> None:
        """Ends its thread."""
        self._killed = True
        self._turn.put(None)
        self._thread.join()

    def _drive(self) -> None:
        try:
            session = self.bench.session(
                self._record,
                self._pool,
                stopped=lambda: self._stopping,
                notify=lambda _event: self._wait(),
            )
            self.summary = session.run()
        except BaseException as error:  # noqa: BLE001 - the test raises it
            self.error = error
        finally:
            self.over = True
            self._paused.put(None)

    def _wait(self) -> None:
        """Here a driver may be killed."""
        if not self._killed:
            self._paused.put(None)
            self._turn.get()
        if self._killed:
            raise Killed


class Stage:
    """What one schedule after another is played on: a database, connections to it, the homes."""

    def __init__(self, bench: Bench, clocks: Clocks) -> None:
        self.bench = bench
        self.clocks = clocks
        self.played = 0
        self._spare: list[Database] = []
        living = drivers.c.ended_ms.is_(None), drivers.c.pid_started != -1
        heartbeats = update(drivers).where(*living, drivers.c.home != bindparam("frozen"))
        self._heartbeats = heartbeats.values(last_heartbeat_ms=bindparam("at_ms"))
        self.frozen = ""
        """The id of the home whose driver sends no heartbeats."""
        self._sent_at = clocks.now
        clocks.meanwhile = self._send_heartbeats

    def record(self, spec: StudySpec) -> StudyRecord:
        """Stores a study, the only one in the database."""
        database = self.bench.database
        with database.engine.begin() as connection:
            for table in _TABLES:
                connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608 - names of tables
        record = self.bench.record(spec)
        CodeVersions(database, spec.name).update({}, trials=0, accepts=False)
        return record

    def join(self, home: int, record: StudyRecord) -> Driver:
        """Another driver in the home."""
        database = self._spare.pop() if self._spare else open_database(self.bench.home)
        return Driver(Bench(self.home(home), database, self.bench.dataset), record)

    def home(self, number: int) -> Home:
        place = Home(self.bench.home.root / f"home-{number}")
        place.create()
        return place

    def bury(self, driver: Driver) -> None:
        """Ends the driver's thread; the next one takes its connection."""
        driver.bury()
        self._spare.append(driver.bench.database)

    def _send_heartbeats(self) -> None:
        """Of all drivers that were not killed, when they are due."""
        if self.clocks.now - self._sent_at < HEARTBEAT_S:
            return
        self._sent_at = self.clocks.now
        with self.bench.database.engine.begin() as connection:
            sent = {"at_ms": self.clocks.database_ms, "frozen": self.frozen}
            connection.execute(self._heartbeats, sent)

    def close(self) -> None:
        for database in self._spare:
            database.close()


@dataclass
class World:
    """One study in the stage's database, with a driver in each home now and then."""

    stage: Stage
    record: StudyRecord
    drivers: dict[int, Driver] = field(default_factory=dict)
    dead: list[Driver] = field(default_factory=list)
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

    def check(self) -> None:
        """I1: each slot is one trial that has ended, after no more retries than it may have."""
        tried = self.bench.ledger(self.spec).attempts()
        rows = self.bench.trials(self.spec).all()
        slots = list(range(self.spec.trials))
        assert sorted(row.user_attrs["slot"] for row in rows) == slots
        assert all(row.state.is_finished() for row in rows)
        assert all(each.outcome is not None for each in tried)
        assert sorted(each.slot for each in tried if each.final) == slots
        lost = Counter(each.slot for each in tried if each.outcome == "lost")
        assert all(number <= MAX_RETRIES for number in lost.values())
        for attempt in tried:
            self._check_run(attempt)

    def _check_run(self, attempt: Attempt) -> None:
        """I2 and I3: an attempt is one run that has ended, with each epoch once and no gap.

        What a killed driver has written by half damages no line that follows.
        """
        folders = [self._folder(home, attempt) for home in range(HOMES)]
        done = [step for folder in folders for step in steps(None, list(read_lines(folder, 0)))]
        if not done:
            assert attempt.handed_back, "an attempt without a run had not begun"
            return
        assert not any(step.refused for step in done), "each line can be read"
        assert {step.run.opening.uid for step in done if step.run} == {attempt.uid}
        statuses = [step.update.status for step in done if step.update.status]
        assert set(statuses) - {"RUNNING"} == {STATUS[str(attempt.outcome)]}
        assert statuses[-1] != "RUNNING"
        points = [point.step for step in done for point in step.update.points if is_loss(point.key)]
        assert points == list(range(1, len(points) + 1))

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
        self.stage.frozen = self.stage.home(home).uid
        for _ in range(FROZEN_BEATS):
            self.stage.clocks.sleep(HEARTBEAT_S)
            for other in self.drivers.keys() - {home}:
                self.take(other, "go on")
        self.stage.frozen = ""

    def _tear(self, home: int) -> None:
        """Leaves half a line in the spools of its attempts, as a write that was cut short does."""
        for attempt in self.bench.ledger(self.spec).attempts():
            spool = self._folder(home, attempt) / FILE_NAME
            if attempt.outcome is None and spool.exists():
                with spool.open("ab") as file:
                    file.write(b'{"kind": "epoch-')

    def _folder(self, home: int, attempt: Attempt) -> Path:
        return self.stage.home(home).attempt(self.spec.name, attempt.slot, attempt.number)

    def close(self) -> None:
        for driver in [*self.dead, *self.drivers.values()]:
            self.stage.bury(driver)


def is_loss(key: str) -> bool:
    return key == "loss"


def play(stage: Stage, schedule: Schedule) -> None:
    """Runs the schedule's study to its end, and checks I1 to I3."""
    stage.played += 1
    spec = small_study(
        name=f"study-{stage.played}",
        trials=schedule.trials,
        epochs=schedule.epochs,
        sampler="random",
        search_space={"learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2}},
        baseline=[{"learning_rate": 0.001}],
        max_retries=MAX_RETRIES,
    )
    with closing(World(stage, stage.record(spec))) as world:
        for step in schedule.steps:
            for fate in step.fates:
                if not world.done:
                    world.take(step.home, fate)
        world.finish()
        world.check()


def play_generated(stage: Stage, schedules: int, start: int | None = None) -> None:
    """Plays generated schedules. Those that follow from the seed `start`; any, if it is None."""

    @settings(
        max_examples=schedules,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @example(ALL_STOPPED)
    @given(SCHEDULES)
    def run(schedule: Schedule) -> None:
        play(stage, schedule)

    (run if start is None else seed(start)(run))()


@contextmanager
def stage_in_memory() -> Iterator[Stage]:
    """A stage whose files are in memory, where the machine has such a folder: disks cost time."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of a random name below it
    parent = memory if memory.is_dir() else None
    with TemporaryDirectory(dir=parent) as folder, simulated_clocks() as clocks:
        home = Home(Path(folder) / "home")
        with open_database(home) as database:
            bench = Bench(home, database, unseen_dataset(home.root))
            with bench.stack, closing(Stage(bench, clocks)) as stage:
                yield stage


def _play_for(seconds: float, start: int) -> tuple[int, float]:
    """Plays schedules for some seconds. Returns how many, and the seconds that they took."""
    configure_process()
    begun, played = time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        with stage_in_memory() as stage:
            play_generated(stage, _BATCH, start + played)
            played += stage.played
    return played, time.monotonic() - begun


def main() -> None:
    """Plays schedules on every core, and says how many."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--seconds", type=float, default=60)
    arguments.add_argument("--seed", type=int, default=random.randrange(10**6))  # noqa: S311
    asked = arguments.parse_args()
    cores = len(usable_cores())
    starts = [asked.seed + core * 10**6 for core in range(cores)]
    with ProcessPoolExecutor(cores, get_context("spawn")) as processes:
        done = list(processes.map(partial(_play_for, asked.seconds), starts))
    rate = round(sum(played / took_s for played, took_s in done) * 60)
    Console(highlight=False, soft_wrap=True).print(
        f"{sum(played for played, _ in done)} schedules from seed {asked.seed}, {rate} a minute on "
        f"{cores} cores: each ended with every trial, run and epoch once"
    )


if __name__ == "__main__":
    main()

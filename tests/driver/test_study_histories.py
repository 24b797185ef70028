"""Whole studies on a pool that follows a script, with drivers and trainers that die at any moment.

Hypothesis generates the schedules: which driver goes on next, and what befalls it. A driver runs in
a thread of its own, from one event to the next, and only one at a time. A killed one never goes on.
"""

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from tests.bench import Bench, Clocks, ScriptedPool, small_study
from tuner.home import Home
from tuner.spec.study_spec import StudySpec
from tuner.storage.attempts import Attempt
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog
from tuner.storage.tables import drivers
from tuner.tracking.shipping.steps import steps
from tuner.tracking.spool.spool import read_lines
from tuner.workers.pool import PoolEvent

HOMES = 2
TRIALS = 3
MAX_RETRIES = 1
Step = Literal[
    "go on", "trainer dies", "trial fails", "kill", "stop", "clock jumps", "database is away"
]
STEPS: list[Step] = list(get_args(Step))
HEARTBEAT_S = 10.0
HOUR_S = 3600.0
STATUS = {
    "completed": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "lost": "KILLED",
}


class Killed(BaseException):
    """Ends the thread of a driver that was killed, once everything has been checked."""


@dataclass
class SteppedPool(ScriptedPool):
    """A pool whose driver waits before each event until it is that driver's turn."""

    wait: Callable[[], None] = lambda: None
    fate: Step = "go on"
    """What befalls the trial that is the next one to be heard of."""

    def next_event(self, timeout_s: float) -> PoolEvent | None:
        self.wait()
        fate, self.fate = self.fate, "go on"
        self.dies = lambda _plan: fate == "trainer dies"
        self.fails = lambda _plan: fate == "trial fails"
        return super().next_event(timeout_s)


class Driver:
    """A driver in a home, with a connection of its own."""

    def __init__(self, bench: Bench, spec: StudySpec) -> None:
        self.bench = bench
        self.over = False
        self.error: BaseException | None = None
        self._spec = spec
        self._pool = SteppedPool(size=2, wait=self._wait)
        self._stopping = self._killed = False
        self._turn, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._drive, daemon=True)
        self._thread.start()
        self._paused.acquire()

    def take(self, step: Step) -> None:
        """Lets it work until something happens, or it has ended."""
        self._stopping |= step == "stop"
        if step in ("trainer dies", "trial fails"):
            self._pool.fate = step
        self._turn.release()
        self._paused.acquire()

    def bury(self) -> None:
        """Ends its thread."""
        self._killed = True
        self._turn.release()
        self._thread.join()
        self.bench.database.close()

    def _drive(self) -> None:
        try:
            self.bench.run(
                self._spec,
                self._pool,
                stopped=lambda: self._stopping,
                notify=lambda _event: self._wait(),
            )
        except BaseException as error:  # noqa: BLE001 - the test raises it
            self.error = error
        finally:
            self.over = True
            self._paused.release()

    def _wait(self) -> None:
        """Here a driver may be killed."""
        if self._killed:
            raise Killed
        self._paused.release()
        self._turn.acquire()
        if self._killed:
            raise Killed


@dataclass
class World:
    """One study in one database, with a driver in each home now and then."""

    bench: Bench
    spec: StudySpec
    folder: Path
    clocks: Clocks
    drivers: dict[int, Driver] = field(default_factory=dict)
    dead: list[Driver] = field(default_factory=list)

    def take(self, home: int, step: Step) -> None:
        """A step of the home's driver, which begins where there is none.

        The others send a heartbeat before it, but not while the database is away.
        """
        if step == "clock jumps":
            self.clocks.ahead += -HOUR_S if self.clocks.ahead > 1e9 else HOUR_S
        elif step == "database is away":
            self.clocks.now += HOUR_S
        else:
            self.clocks.sleep(HEARTBEAT_S)
        driver = self.drivers.get(home)
        if driver is None:
            place = Home(self.folder / self.spec.name / f"home-{home}")
            place.create()
            bench = Bench(place, open_database(self.bench.home), self.bench.dataset)
            driver = self.drivers[home] = Driver(bench, self.spec)
        elif step == "kill":
            self._kill(home)
            return
        else:
            driver.take(step)
        if driver.over:
            self.dead.append(self.drivers.pop(home))
            if driver.error is not None:
                raise driver.error

    def finish(self) -> None:
        """The drivers leave, some told to stop. Then each home gets one more, to the end."""
        self._let_leave()
        for home in range(HOMES):
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
        assert sorted(row.user_attrs["slot"] for row in rows) == list(range(TRIALS))
        assert all(row.state.is_finished() for row in rows)
        assert all(each.outcome is not None for each in tried)
        assert sorted(each.slot for each in tried if each.final) == list(range(TRIALS))
        lost = Counter(each.slot for each in tried if each.outcome == "lost")
        assert all(number <= MAX_RETRIES for number in lost.values())
        for attempt in tried:
            self._check_run(attempt)

    def _check_run(self, attempt: Attempt) -> None:
        """I2 and I3: an attempt is one run that has ended, with each epoch once and no gap."""
        name = f"{self.spec.name}/home-*/studies/*/*/attempts/{attempt.slot}-{attempt.number}"
        done = [
            step
            for folder in sorted(self.folder.glob(name))
            for step in steps(None, list(read_lines(folder, 0)))
        ]
        if not done:
            assert attempt.handed_back, "an attempt without a run had not begun"
            return
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
        mine = drivers.c.study == self.spec.name, drivers.c.home == driver.bench.home.uid
        gone = update(drivers).where(*mine, drivers.c.ended_ms.is_(None)).values(pid_started=-1)
        with self.bench.database.engine.begin() as connection:
            connection.execute(gone)

    def close(self) -> None:
        Catalog(self.bench.database).delete(self.spec.name)
        for driver in [*self.dead, *self.drivers.values()]:
            driver.bury()


def is_loss(key: str) -> bool:
    return key == "loss"


STUDIES = iter(range(10**9))
ALL_STOPPED: list[tuple[int, int, Step]] = [(0, 4, "go on"), (0, 0, "stop"), (1, 1, "stop")]
"""Each driver has been told to stop and has not left when the schedule ends."""


@pytest.mark.parametrize(
    "schedules", [pytest.param(3, id="few"), pytest.param(60, id="many", marks=pytest.mark.slow)]
)
def test_every_generated_schedule_ends_with_each_trial_run_and_epoch_once(
    bench: Bench, tmp_path: Path, clocks: Clocks, monkeypatch: pytest.MonkeyPatch, schedules: int
) -> None:
    monkeypatch.setenv("TUNER_STORAGE_URL", f"sqlite:///{bench.home.database}")

    def send_heartbeats() -> None:
        """Of all drivers that were not killed."""
        living = update(drivers).where(drivers.c.ended_ms.is_(None), drivers.c.pid_started != -1)
        with bench.database.engine.begin() as connection:
            connection.execute(living.values(last_heartbeat_ms=clocks.database_now_ms()))

    clocks.meanwhile = send_heartbeats

    @settings(max_examples=schedules, deadline=None, suppress_health_check=list(HealthCheck))
    @example(ALL_STOPPED)
    @given(
        st.lists(
            st.tuples(st.integers(0, HOMES - 1), st.integers(0, 4), st.sampled_from(STEPS)),
            min_size=8,
            max_size=20,
        )
    )
    def run(schedule: list[tuple[int, int, Step]]) -> None:
        spec = small_study(
            name=f"study-{next(STUDIES)}",
            trials=TRIALS,
            epochs=2,
            sampler="random",
            max_retries=MAX_RETRIES,
        )
        bench.record(spec)
        with closing(World(bench, spec, tmp_path, clocks)) as world:
            for home, before, step in schedule:
                for _ in range(before):
                    world.take(home, "go on")
                world.take(home, step)
            world.finish()
            world.check()

    run()

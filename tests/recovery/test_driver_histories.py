"""Drivers that join, work, fall silent, die and come back in any order, on simulated clocks.

Hypothesis generates the histories. The drivers' heartbeats and the time at which they look at
one another are steps of a history, so no test waits. The database's clock may jump, and the
database may be away: after both, every driver looks before any sends a heartbeat.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from optuna.trial import TrialState
from sqlalchemy import select, update

from tests.bench import Bench, Clocks, small_study
from tuner.errors import SupersededError
from tuner.recovery.takeover import end_driver
from tuner.search.trials import OpenTrial, Trials
from tuner.spec.study_spec import StudySpec
from tuner.storage.attempts import ClaimedSlot, Ledger
from tuner.storage.database import Database
from tuner.storage.drivers import DriverLease, Drivers
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog
from tuner.storage.tables import attempts, drivers
from tuner.training.plan import EpochReport, Outcome, Timings, TrialResult

SLOTS = 3
LEASE_S = 1e6
"""No heartbeat is sent by the clock on the wall in the time that a history takes."""
TICK_S = 0.3 * LEASE_S
HOUR_S = 60 * LEASE_S
MOST_DRIVERS = 4

ENDS = {
    TrialState.COMPLETE: Outcome.COMPLETED,
    TrialState.FAIL: Outcome.FAILED,
}


@dataclass
class Trying:
    """An attempt in a driver's hands."""

    claim: ClaimedSlot
    opened: OpenTrial | None = None
    told: Outcome | None = None
    """The outcome that the row was told, before the ledger has it."""
    epochs: int = 0


@dataclass
class Driver:
    """A driver of the study, with a connection and a home of its own."""

    database: Database
    lease: DriverLease
    ledger: Ledger
    trials: Trials
    others: Drivers
    home: str
    beat_at: float
    awake: bool = True
    dead: bool = False
    given_up: bool = False
    trying: dict[int, Trying] = field(default_factory=dict)

    @property
    def uid(self) -> str:
        return self.lease.uid

    def outcomes(self) -> dict[int, Outcome]:
        """How its open attempts end when it is given up, by slot."""
        return {slot: each.told or Outcome.INTERRUPTED for slot, each in self.trying.items()}


class DriverHistories(RuleBasedStateMachine):
    """One study, from its first driver until every slot is done."""

    studies = 0

    def __init__(self, bench: Bench, unused: list[Database], clocks: Clocks) -> None:
        super().__init__()
        self.bench = bench
        self.unused = unused
        self.clocks = clocks
        self.drivers: list[Driver] = []
        self.lost = 0
        """How many attempts a trainer's death has ended."""

    @initialize()
    def a_study_is_made(self) -> None:
        DriverHistories.studies += 1
        name = f"history-{DriverHistories.studies}"
        self.spec: StudySpec = small_study(name=name, trials=SLOTS, sampler="random", baseline=[])
        self.bench.record(self.spec)

    @property
    def present(self) -> list[Driver]:
        """Those whose processes exist."""
        return [each for each in self.drivers if not each.dead]

    @property
    def awake(self) -> list[Driver]:
        return [each for each in self.present if each.awake]

    def pick(self, which: int, choices: list[Driver] | None = None) -> Driver:
        among = self.awake if choices is None else choices
        return among[which % len(among)]

    @precondition(lambda self: len(self.present) < MOST_DRIVERS)
    @rule(elsewhere=st.booleans(), home=st.integers(0, MOST_DRIVERS))
    def join(self, elsewhere: bool, home: int) -> None:
        """A home has one driver at a time, as its lock sees to."""
        taken = {each.home for each in self.present}
        free = [f"home {n}" for n in range(MOST_DRIVERS + 1) if f"home {n}" not in taken]
        self.enrol(elsewhere=elsewhere, home=free[home % len(free)])

    def enrol(self, *, elsewhere: bool, home: str) -> Driver:
        name, database = self.spec.name, self.connect()
        lease = DriverLease(database, name, home, LEASE_S)
        lease.__enter__()
        driver = Driver(
            database,
            lease,
            Ledger(database, name, lease.uid),
            Trials(database, self.spec),
            Drivers(database, name),
            home,
            self.clocks.now,
        )
        if elsewhere:
            self.change_row(driver, host="elsewhere")
        self.drivers.append(driver)
        return driver

    def connect(self) -> Database:
        return self.unused.pop() if self.unused else open_database(self.bench.home)

    def change_row(self, driver: Driver, **values: Any) -> None:
        row = update(drivers).where(drivers.c.uid == driver.uid).values(**values)
        with self.bench.database.engine.begin() as connection:
            connection.execute(row)

    @precondition(lambda self: self.awake)
    @rule(which=st.integers(0, 3))
    def claim(self, which: int) -> None:
        driver = self.pick(which)
        self.act(driver, lambda: self.claim_with(driver))

    def claim_with(self, driver: Driver) -> None:
        claim = driver.ledger.claim(SLOTS, lambda _slot: True, lambda _slot: False)
        newest = driver.ledger.latest()
        if claim is None:
            assert not [slot for slot in range(SLOTS) if slot not in newest]
            assert not [each for each in newest.values() if each.handed_back]
        else:
            driver.trying[claim.slot] = Trying(claim)

    @precondition(lambda self: self.tries(opened=False))
    @rule(which=st.integers(0, 11))
    def open_row(self, which: int) -> None:
        driver, trying = self.pick_try(which, opened=False)
        self.act(driver, lambda: self.open_with(driver, trying))

    def open_with(self, driver: Driver, trying: Trying) -> None:
        trying.opened = driver.trials.open(trying.claim)

    @precondition(lambda self: self.tries(opened=True))
    @rule(which=st.integers(0, 11))
    def report(self, which: int) -> None:
        """Reports wait in memory, so that a fenced driver may take one and lose it."""
        driver, trying = self.pick_try(which, opened=True)
        assert trying.opened is not None
        trying.epochs = max(trying.epochs, *trying.opened.reported, 0) + 1
        driver.trials.report(trying.opened, epoch(trying.epochs))

    @precondition(lambda self: self.tries(opened=True))
    @rule(which=st.integers(0, 11), completes=st.booleans())
    def tell(self, which: int, completes: bool) -> None:
        """The row; the ledger hears in another step, before which the driver may die."""
        driver, trying = self.pick_try(which, opened=True)
        self.act(driver, lambda: tell_row(driver, trying, completes=completes))

    @precondition(lambda self: self.tries(told=True))
    @rule(which=st.integers(0, 11))
    def close(self, which: int) -> None:
        driver, trying = self.pick_try(which, told=True)
        self.act(driver, lambda: close_attempt(driver, trying, trying.told))

    @precondition(lambda self: self.tries(told=False))
    @rule(which=st.integers(0, 11))
    def lose_the_trainer(self, which: int) -> None:
        driver, trying = self.pick_try(which, told=False)
        if self.act(driver, lambda: close_attempt(driver, trying, Outcome.LOST)):
            self.lost += 1

    @precondition(lambda self: self.awake)
    @rule(which=st.integers(0, 3))
    def stop(self, which: int) -> None:
        driver = self.pick(which)
        self.act(driver, lambda: self.leave(driver))

    def leave(self, driver: Driver) -> None:
        driver.ledger.has_free(SLOTS)  # as every driver looks before it leaves
        for trying in list(driver.trying.values()):
            close_attempt(driver, trying, trying.told or Outcome.INTERRUPTED)
        others = [each for each in self.drivers if not each.given_up and each is not driver]
        assert driver.lease.leave() == (not others)
        driver.given_up = True
        self.drop(driver)

    @precondition(lambda self: self.awake)
    @rule(which=st.integers(0, 3))
    def fall_silent(self, which: int) -> None:
        """As SIGSTOP does, or a network that is cut."""
        self.pick(which).awake = False

    @precondition(lambda self: len(self.awake) < len(self.present))
    @rule(which=st.integers(0, 3))
    def come_back(self, which: int) -> None:
        self.wake(self.pick(which, [each for each in self.present if not each.awake]))

    @precondition(lambda self: self.awake)
    @rule(which=st.integers(0, 3))
    def freeze(self, which: int) -> None:
        """As SIGSTOP and SIGCONT do, longer than a lease apart."""
        driver = self.pick(which)
        driver.awake = False
        self.pass_time(5)
        self.wake(driver)

    def wake(self, driver: Driver) -> None:
        """Its thread sends a heartbeat at once, long overdue."""
        driver.awake = True
        self.send_heartbeat(driver)

    @precondition(lambda self: self.present)
    @rule(which=st.integers(0, 3))
    def die(self, which: int) -> None:
        """On this machine others see at once that the process is gone."""
        driver = self.pick(which, self.present)
        self.change_row(driver, pid_started=-1)
        self.drop(driver)

    @rule(ticks=st.integers(1, 5))
    def pass_time(self, ticks: int) -> None:
        for _ in range(ticks):
            self.clocks.now += TICK_S
            self.all_look()
            self.all_send_heartbeats()

    @rule(by_s=st.sampled_from([-HOUR_S, -1.1 * LEASE_S, 0.9 * LEASE_S, HOUR_S]))
    def set_the_databases_clock(self, by_s: float) -> None:
        self.clocks.ahead += by_s
        self.all_look()

    @rule(for_s=st.sampled_from([0.4 * LEASE_S, 1.5 * LEASE_S, HOUR_S]))
    def lose_the_database(self, for_s: float) -> None:
        """Drivers that live send a heartbeat soon after its return."""
        self.clocks.now += for_s
        self.all_look()
        self.all_send_heartbeats()

    def all_look(self) -> None:
        for driver in self.awake:
            if not driver.given_up:
                self.look(driver)

    def all_send_heartbeats(self) -> None:
        for driver in self.awake:
            self.send_heartbeat(driver)

    def send_heartbeat(self, driver: Driver) -> None:
        if self.act(driver, driver.lease.send_heartbeat, noticed=False):
            driver.beat_at = self.clocks.now

    def look(self, driver: Driver) -> None:
        """Gives up who is dead, and nobody else, with all that was in the dead one's hands."""
        for row in driver.others.dead():
            (found,) = (each for each in self.drivers if each.uid == row.uid)
            gone = found.dead and row.process.host != "elsewhere"
            assert gone or self.clocks.now - found.beat_at >= LEASE_S / 2
            assert not (found.awake and not found.dead), "a driver that sends heartbeats lives"
            closed = end_driver(driver.database, self.spec.name, row)
            assert closed is not None
            assert {each.slot: each.outcome for each in closed} == found.outcomes()
            found.given_up = True

    def act(self, driver: Driver, action: Callable[[], object], *, noticed: bool = True) -> bool:
        """Whether it was done: a driver that was given up changes nothing, and hears so."""
        if not driver.given_up:
            action()
            return True
        before = self.stored()
        with pytest.raises(SupersededError):
            action()
        assert self.stored() == before
        if noticed:
            self.drop(driver)
        return False

    def drop(self, driver: Driver) -> None:
        driver.dead = True
        driver.awake = False

    def tries(self, **wanted: bool) -> list[tuple[Driver, Trying]]:
        return [
            (driver, trying)
            for driver in self.awake
            for trying in driver.trying.values()
            if wanted.get("opened") in (None, is_opened(trying))
            and not (wanted.get("opened") is False and trying.opened)  # a row is opened once
            and ("told" not in wanted or bool(trying.told) == wanted["told"])
        ]

    def pick_try(self, which: int, **wanted: bool) -> tuple[Driver, Trying]:
        tries = self.tries(**wanted)
        return tries[which % len(tries)]

    def stored(self) -> list[Any]:
        """All that a driver of the study could have changed."""
        ledger = select(attempts).where(attempts.c.study == self.spec.name)
        rows = select(drivers).where(drivers.c.study == self.spec.name)
        with self.bench.database.engine.begin() as connection:
            ours = [*connection.execute(ledger).all(), *connection.execute(rows).all()]
        # Not the trials' texts: PostgreSQL reads a trial's attributes in any order.
        return [*sorted(map(str, ours)), *self.bench.trials(self.spec).all()]

    @invariant()
    def a_slot_has_one_open_attempt_and_one_row_at_most(self) -> None:
        if not hasattr(self, "spec"):
            return
        tried = self.bench.ledger(self.spec).attempts()
        by_slot: dict[int, list[Any]] = {}
        for attempt in tried:
            by_slot.setdefault(attempt.slot, []).append(attempt)
        for slot, each in by_slot.items():
            assert 0 <= slot < SLOTS
            assert [one.number for one in each] == list(range(len(each)))
            assert all(one.handed_back for one in each[:-1]), "an attempt follows a final one"
        open_slots = {(one.driver, one.slot) for one in tried if one.outcome is None}
        assert open_slots == {
            (driver.uid, slot)
            for driver in self.drivers
            if not driver.given_up
            for slot in driver.trying
        }
        slots = [row.user_attrs["slot"] for row in self.bench.trials(self.spec).all()]
        assert len(set(slots)) == len(slots)

    def teardown(self) -> None:
        try:
            if hasattr(self, "spec"):
                self.finish()
                self.check()
        finally:
            for driver in self.drivers:
                driver.lease.leave()
                self.unused.append(driver.database)
            if hasattr(self, "spec"):
                Catalog(self.bench.database).delete(self.spec.name)

    def finish(self) -> None:
        """Those who are silent never come back, and one more driver does what is left."""
        for driver in self.present:
            if not driver.awake:
                self.drop(driver)
        last = self.enrol(elsewhere=True, home="the last home")
        self.pass_time(10)  # its clock may have jumped back
        assert not [each for each in self.drivers if each.dead and not each.given_up]
        for driver in [each for each in self.awake if each is not last]:
            self.act(driver, partial(self.leave, driver))
        while last.ledger.has_free(SLOTS):
            self.claim_with(last)
            for trying in list(last.trying.values()):
                self.open_with(last, trying)
                if not trying.told:
                    tell_row(last, trying, completes=True)
                close_attempt(last, trying, trying.told)
        self.leave(last)

    def check(self) -> None:
        """N slots have come to exactly N trials, and each ledger entry says what its row says."""
        tried = self.bench.ledger(self.spec).attempts()
        rows = self.bench.trials(self.spec).by_slot()
        assert rows.keys() == set(range(SLOTS))
        final = {each.slot: each.outcome for each in tried if each.final}
        assert final == {slot: ENDS[row.state] for slot, row in rows.items()}
        assert len(self.bench.trials(self.spec).all()) == SLOTS
        assert Counter(each.outcome for each in tried)[Outcome.LOST] == self.lost
        assert not [each for each in tried if each.outcome is None]


def is_opened(trying: Trying) -> bool:
    """In a trainer's hands."""
    return trying.opened is not None and not trying.told


def epoch(number: int) -> EpochReport:
    metrics = {"val_accuracy": number / 100, "accuracy": number / 100, "loss": 1.0}
    return EpochReport(epoch=number, metrics=metrics, train_s=1, validation_s=1, finished_ms=1)


def tell_row(driver: Driver, trying: Trying, *, completes: bool) -> None:
    assert trying.opened is not None
    if completes:
        result = TrialResult(
            state=Outcome.COMPLETED,
            epochs=(epoch(1),),
            best_epoch=1,
            evaluation=None,
            model=None,
            timings=Timings(build_s=0, train_s=1, validation_s=1, total_s=2),
            peak_memory_mb=1,
        )
        driver.trials.tell(trying.opened, result)
    else:
        driver.trials.fail(trying.opened, "its trainer died too often")
    trying.told = Outcome.COMPLETED if completes else Outcome.FAILED


def close_attempt(driver: Driver, trying: Trying, outcome: Outcome | None) -> None:
    if trying.opened is not None and not trying.told:
        driver.trials.hand_back(trying.opened)
    assert outcome is not None
    assert driver.ledger.close(trying.claim.uid, outcome)
    del driver.trying[trying.claim.slot]


@pytest.mark.parametrize(
    ("storage", "histories"),
    [
        pytest.param("sqlite", 12, id="sqlite"),
        pytest.param("sqlite", 200, id="sqlite-many", marks=pytest.mark.slow),
        pytest.param("postgresql", 200, id="postgresql-many", marks=pytest.mark.slow),
    ],
    indirect=["storage"],
)
def test_every_generated_history_of_drivers_ends_with_one_trial_per_slot(
    each_bench: Bench, clocks: Clocks, histories: int
) -> None:
    unused: list[Database] = []
    try:
        run_state_machine_as_test(
            lambda: DriverHistories(each_bench, unused, clocks),  # type: ignore[arg-type]  # a factory will do
            settings=settings(
                max_examples=histories,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        for database in unused:
            database.close()

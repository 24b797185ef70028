"""Drivers that live, die, fall silent and come back, on SQLite and PostgreSQL."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
from optuna.trial import TrialState
from sqlalchemy import select, update

from tests.bench import Bench, ScriptedPool
from tests.waiting import wait_until
from tuner.errors import RefusedError, SupersededError
from tuner.recovery.takeover import end_driver
from tuner.search.trials import Trials
from tuner.spec.study_spec import StudySpec
from tuner.storage.attempts import Claim, Ledger
from tuner.storage.database import Database
from tuner.storage.drivers import DriverLease, DriverRecord, Drivers, LeaseMonitor, this_process
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog
from tuner.storage.tables import drivers
from tuner.tracking.spool.spool import read_events
from tuner.tracking.spool.spool_events import AttemptAbandoned
from tuner.training.plan import Outcome

Spec = Callable[..., StudySpec]
LEASE_S = 0.6
HERE = "this home"


def claim(ledger: Ledger, slots: int = 6) -> Claim:
    claimed = ledger.claim(slots, ready=lambda _slot: True, takes_queued=lambda _slot: True)
    assert claimed is not None
    return claimed


@contextmanager
def other_driver(
    bench: Bench, spec: StudySpec, home: str = "another home", lease_s: float = LEASE_S
) -> Iterator[tuple[Database, DriverLease]]:
    """A member with a database connection and a home of its own, as on another machine."""
    with (
        open_database(bench.home) as database,
        DriverLease(database, spec.name, home, lease_s) as member,
    ):
        elsewhere = update(drivers).where(drivers.c.uid == member.uid).values(host="elsewhere")
        with database.engine.begin() as connection:
            connection.execute(elsewhere)
        yield database, member


def stop_beating(member: DriverLease) -> None:
    member._stopping.set()
    member._heartbeat.join()


def beat(bench: Bench, member: DriverLease) -> None:
    counted = update(drivers).where(drivers.c.uid == member.uid)
    with bench.database.engine.begin() as connection:
        connection.execute(counted.values(beats=drivers.c.beats + 1))


def silent(bench: Bench, spec: StudySpec) -> Callable[[], list[DriverRecord]]:
    return LeaseMonitor(Drivers(bench.database, spec.name)).dead


def test_a_driver_with_heartbeats_is_alive_and_one_without_is_dead(
    each_bench: Bench, study_spec: Spec
) -> None:
    each_bench.record(study_spec())
    watch = silent(each_bench, study_spec())
    with other_driver(each_bench, study_spec()) as (database, member):
        seen = set[int]()
        while len(seen) < 10:  # more than a lease
            assert watch() == []
            (present,) = Drivers(database, "small").registered()
            seen.add(present.beats)
        stop_beating(member)
        wait_until(lambda: [each.uid for each in watch()] == [member.uid])


def test_a_monitor_that_has_not_looked_for_a_while_waits_a_full_lease_again(
    bench: Bench, study_spec: Spec
) -> None:
    bench.record(study_spec())
    clock = [0.0]
    watch = LeaseMonitor(Drivers(bench.database, "small"), lambda: clock[0])
    with other_driver(bench, study_spec()) as (_, member):
        stop_beating(member)
        for clock[0] in (100.0, 101.0, 102.0, 102.15, 102.3, 102.45, 102.6):
            assert watch.dead() == []
        clock[0] = 102.7
        assert [each.uid for each in watch.dead()] == [member.uid]


def test_no_driver_is_dead_because_the_database_did_not_answer(
    bench: Bench, study_spec: Spec
) -> None:
    bench.record(study_spec())
    clock = [0.0]
    watch = LeaseMonitor(Drivers(bench.database, "small"), lambda: clock[0])
    with other_driver(bench, study_spec()) as (_, member):
        stop_beating(member)
        for clock[0] in (0.0, 0.15, 0.3, 0.45):
            assert watch.dead() == []
        _rename(bench, "tuner_drivers", "away")
        clock[0] = 0.59
        assert watch.dead() == []
        _rename(bench, "away", "tuner_drivers")
        for clock[0] in (0.7, 0.85, 1.0, 1.15, 1.29):
            assert watch.dead() == []
        clock[0] = 1.4
        assert [each.uid for each in watch.dead()] == [member.uid]


def test_a_driver_that_registers_between_two_looks_is_seen_alive(
    bench: Bench, study_spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first finds nobody, the second finds it before it has beaten."""
    bench.record(study_spec())
    monkeypatch.setattr("tuner.storage.drivers._LONGEST_PACE_S", 0.05)
    with ExitStack() as stack:

        class Crowd(Drivers):
            came: DriverLease | None = None

            def registered(self) -> list[DriverRecord]:
                before = super().registered()
                if self.came is None:
                    _, self.came = stack.enter_context(other_driver(bench, study_spec(), HERE))
                return before

        crowd = Crowd(bench.database, "small")
        (living,) = LeaseMonitor(crowd, home=HERE).alive()
        assert crowd.came
        assert living.uid == crowd.came.uid


def _rename(bench: Bench, table: str, to: str) -> None:
    with bench.database.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {to}")


def test_a_killed_driver_of_this_machine_is_dead_at_once(
    each_bench: Bench, study_spec: Spec
) -> None:
    each_bench.record(study_spec())
    program = """
import sys, time
from pathlib import Path
from tuner.home import Home
from tuner.storage.opening import open_database
from tuner.storage.drivers import DriverLease
with open_database(Home(Path(sys.argv[1]))) as database:
    with DriverLease(database, "small", "another home", lease_s=3600) as member:
        print(member.uid, flush=True)
        time.sleep(3600)
"""
    command = [sys.executable, "-c", program, str(each_bench.home.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as driver:
        assert driver.stdout is not None
        uid = driver.stdout.readline().strip()
        watch = silent(each_bench, study_spec())
        assert watch() == []
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        assert [each.uid for each in watch()] == [uid]


def test_a_fenced_driver_commits_nothing(each_bench: Bench, study_spec: Spec) -> None:
    spec = study_spec()
    each_bench.record(spec)
    with other_driver(each_bench, spec) as (database, member):
        ledger, trials = Ledger(database, "small", member.uid), Trials(database, spec)
        claimed = claim(ledger)
        opened = trials.open(claimed)
        (present,) = Drivers(each_bench.database, "small").registered()

        closed = end_driver(each_bench.database, "small", present)

        assert [(each.uid, each.outcome) for each in closed] == [(claimed.uid, "interrupted")]
        opened.trial.set_user_attr("late", 1)
        for write in (
            lambda: claim(ledger),
            lambda: ledger.close(claimed.uid, Outcome.COMPLETED),
            lambda: trials.fail(opened, "too late"),
        ):
            with pytest.raises(SupersededError, match="other drivers took over"):
                write()
        assert not member.leave() or Drivers(each_bench.database, "small").registered() == []
    row = each_bench.trials(spec).by_slot()[0]
    assert (row.state, "late" in row.user_attrs) == (TrialState.RUNNING, False)
    (attempt,) = each_bench.ledger(spec).attempts()
    assert attempt.outcome == "interrupted"
    again = claim(each_bench.ledger(spec, each_bench.member(spec)))
    assert (again.slot, again.number, again.predecessor) == (0, 1, claimed.uid)


def test_a_driver_is_taken_over_once(each_bench: Bench, study_spec: Spec) -> None:
    each_bench.record(study_spec())
    with other_driver(each_bench, study_spec()) as (database, member):
        claim(Ledger(database, "small", member.uid))
        (present,) = Drivers(each_bench.database, "small").registered()
        assert len(end_driver(each_bench.database, "small", present)) == 1
        assert end_driver(each_bench.database, "small", present) == []


def test_a_takeover_closes_an_attempt_with_the_outcome_of_its_trial(
    each_bench: Bench, study_spec: Spec
) -> None:
    spec = study_spec()
    each_bench.record(spec)
    with other_driver(each_bench, spec) as (database, member):
        trials = Trials(database, spec)
        trials.fail(trials.open(claim(Ledger(database, "small", member.uid))), "as it says")
        (present,) = Drivers(each_bench.database, "small").registered()
        (closed,) = end_driver(each_bench.database, "small", present)
    assert closed.outcome == "failed"
    assert each_bench.ledger(spec).attempts()[0].final


def test_a_driver_takes_over_the_trials_of_a_dead_one_and_closes_its_run(
    each_bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    spec = study_spec()
    each_bench.record(spec)
    with other_driver(each_bench, spec) as (database, member):
        claimed = claim(Ledger(database, "small", member.uid))
        Trials(database, spec).open(claimed)
        stop_beating(member)

        summary = each_bench.run(spec, scripted(), lease_s=LEASE_S)

    assert summary.counts["completed"] == len(summary.trials) == 6
    tries = [each.outcome for each in each_bench.ledger(spec).attempts() if each.slot == 0]
    assert tries == ["interrupted", "completed"]
    ((told,), _) = read_events(each_bench.home.attempt("small", 0, 0))
    assert isinstance(told, AttemptAbandoned)
    assert told == AttemptAbandoned(at_ms=told.at_ms, uid=claimed.uid, outcome="interrupted")


def test_a_driver_of_the_same_home_is_dead_after_half_its_lease_without_heartbeats(
    bench: Bench, study_spec: Spec
) -> None:
    """Its disk may have been cloned, and the other one of that home live."""
    bench.record(study_spec())
    clock = [0.0]
    home = bench.home.uid
    watch = LeaseMonitor(Drivers(bench.database, "small"), lambda: clock[0], home)
    with (
        other_driver(bench, study_spec(), home, lease_s=60) as (_, clone),
        other_driver(bench, study_spec(), home, lease_s=60) as (_, dead),
    ):
        for member in (clone, dead):
            stop_beating(member)
        for clock[0] in (0.0, 10.0, 20.0, 30.0):
            assert watch.dead() == []
            beat(bench, clone)
        clock[0] = 31.0
        assert [each.uid for each in watch.dead()] == [dead.uid]


def test_the_trials_of_a_silent_driver_of_the_same_home_are_finished(
    each_bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    spec = study_spec()
    each_bench.record(spec)
    with other_driver(each_bench, spec, each_bench.home.uid, lease_s=2) as (database, member):
        claim(Ledger(database, "small", member.uid))
        stop_beating(member)
        assert each_bench.run(spec, scripted()).counts["completed"] == 6
    tries = [each.outcome for each in each_bench.ledger(spec).attempts() if each.slot == 0]
    assert tries == ["interrupted", "completed"]


def test_a_driver_whose_study_was_deleted_is_refused(each_bench: Bench, study_spec: Spec) -> None:
    each_bench.record(study_spec())
    with other_driver(each_bench, study_spec()) as (database, member):
        Catalog(each_bench.database).delete("small")
        with pytest.raises(RefusedError, match="deleted while it ran"):
            claim(Ledger(database, "small", member.uid))


def test_only_the_last_driver_to_leave_learns_that_it_is_the_last(
    each_bench: Bench, study_spec: Spec
) -> None:
    each_bench.record(study_spec())
    with (
        other_driver(each_bench, study_spec()) as (_, first),
        other_driver(each_bench, study_spec()) as (_, second),
    ):
        assert (first.leads(), second.leads()) == (True, False)
        assert not first.leave()
        assert second.leads()
        assert second.leave()
    with each_bench.database.engine.begin() as connection:
        ends = connection.execute(select(drivers.c.ended_ms)).scalars().all()
    assert len(ends) == 2
    assert None not in ends


def test_a_process_hidden_in_proc_is_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with `hidepid=2`, which shows nobody what other users run."""
    living = replace(this_process(), pid=os.getppid())
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    dead = replace(living, pid=ended.pid)

    def hidden(_pid: int) -> int:
        raise FileNotFoundError

    monkeypatch.setattr("tuner.storage.drivers._start_ticks", hidden)
    assert not living.is_gone()
    assert dead.is_gone()


def test_a_process_is_gone_when_its_pid_belongs_to_another() -> None:
    here = this_process()

    assert not here.is_gone()
    assert replace(here, started=here.started - 1).is_gone()
    assert not replace(here, started=here.started - 1, place="another").is_gone()
    assert not replace(here, started=here.started - 1, host="elsewhere").is_gone()

"""Drivers that live, die, fall silent and come back, on SQLite and PostgreSQL."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState
from sqlalchemy import Connection, select, update
from sqlalchemy.exc import SQLAlchemyError

from tests.bench import Bench, Clocks, ScriptedPool, small_study
from tests.waiting import wait_until
from tuner.errors import RefusedError, SupersededError
from tuner.recovery.takeover import PeerDrivers, close_study, end_driver
from tuner.search.trials import Trials
from tuner.spec.study_spec import StudySpec
from tuner.storage.attempts import ClaimedSlot, Ledger
from tuner.storage.database import Database
from tuner.storage.drivers import DriverLease, DriverRecord, Drivers, this_process
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog
from tuner.storage.tables import drivers
from tuner.tracking.spool.spool import read_events
from tuner.tracking.spool.spool_events import AttemptAbandoned, StudyClosed
from tuner.training.plan import Outcome

LEASE_S = 0.6
HOUR_S = 3600.0


def claim(ledger: Ledger, slots: int = 6) -> ClaimedSlot:
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


@contextmanager
def silent_driver(bench: Bench) -> Iterator[tuple[Drivers, DriverLease]]:
    """A study's drivers, and the one of another machine, with a lease of 60 s, that fell silent."""
    bench.record(small_study())
    with other_driver(bench, small_study(), lease_s=60) as (_, member):
        stop_beating(member)
        yield Drivers(bench.database, "small"), member


def registered(bench: Bench) -> DriverRecord:
    """The only driver of the study."""
    (present,) = Drivers(bench.database, "small").registered()
    return present


def dead(others: Drivers) -> list[str]:
    return [driver.uid for driver in others.dead()]


def test_a_driver_lives_while_it_sends_heartbeats_and_dies_a_lease_later(
    each_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the database's own clock; whether it lives is known at once."""
    each_bench.record(small_study())
    unhurried = SimpleNamespace(monotonic=time.monotonic, sleep=pytest.fail)
    monkeypatch.setattr("tuner.storage.drivers.time", unhurried)
    others = Drivers(each_bench.database, "small")
    with other_driver(each_bench, small_study()) as (_, member):
        seen = set[int]()
        while len(seen) < 10:  # more than a lease
            assert others.dead() == []
            (present,) = others.alive()
            seen.add(present.last_heartbeat_ms)
        stop_beating(member)
        wait_until(lambda: dead(others) == [member.uid])
        assert others.alive() == []


def test_the_time_between_two_queries_counts_as_one_heartbeat_at_most(
    bench: Bench, clocks: Clocks
) -> None:
    """The observer may have been stopped, or the database away."""
    with silent_driver(bench) as (others, member):
        for clocks.now in (0.0, HOUR_S, HOUR_S + 5, 2 * HOUR_S, 3 * HOUR_S, 3 * HOUR_S + 4):
            assert others.dead() == []
        clocks.now = 3 * HOUR_S + 5
        assert dead(others) == [member.uid]


def test_a_slow_observer_finds_a_dead_driver_too(bench: Bench, clocks: Clocks) -> None:
    with silent_driver(bench) as (others, member):
        for clocks.now in (0.0, 70.0, 140.0, 210.0):
            assert others.dead() == []
        clocks.now = 280.0
        assert dead(others) == [member.uid]


def test_drivers_have_half_a_lease_to_send_a_heartbeat_after_an_outage(
    bench: Bench, clocks: Clocks
) -> None:
    """Whatever was observed before it, and however long the query waited for its end."""
    with silent_driver(bench) as (others, member):
        for clocks.now in (0.0, 5.0, 9.9, 100.0, 106.0, 112.0, 118.0, 124.0, 129.9):
            assert others.dead() == []
        clocks.now = 130.0
        assert dead(others) == [member.uid]


@pytest.mark.parametrize("by_s", [-HOUR_S, HOUR_S])
def test_a_jump_of_the_databases_clock_kills_nobody(
    bench: Bench, clocks: Clocks, by_s: float
) -> None:
    with silent_driver(bench) as (others, member):
        assert [driver.is_overdue for driver in others.alive()] == [False]
        clocks.ahead += by_s
        for clocks.now in (0.0, 10.0, 20.0, 29.0):
            assert others.dead() == []
        assert [driver.is_overdue for driver in others.registered()] == [True]
        member.send_heartbeat()
        clocks.now = 40.0
        assert others.dead() == []
        assert [driver.is_overdue for driver in others.alive()] == [False]


def test_a_driver_whose_heartbeats_tell_another_time_lives(bench: Bench, clocks: Clocks) -> None:
    """As after one jump of the clock after another: each lease expires at once."""
    with silent_driver(bench) as (others, member):

        def go_on() -> None:
            member.send_heartbeat()
            clocks.ahead += HOUR_S

        clocks.meanwhile = go_on
        clocks.ahead += HOUR_S
        assert [driver.uid for driver in others.alive()] == [member.uid]


def test_no_driver_is_dead_because_the_database_did_not_answer(
    bench: Bench, clocks: Clocks
) -> None:
    with silent_driver(bench) as (others, member):
        assert others.dead() == []
        _rename(bench, "tuner_drivers", "away")
        clocks.now = 5
        with pytest.raises(SQLAlchemyError):
            others.dead()
        _rename(bench, "away", "tuner_drivers")
        for clocks.now in (HOUR_S, HOUR_S + 10, HOUR_S + 20, HOUR_S + 29):
            assert others.dead() == []
        clocks.now = HOUR_S + 30
        assert dead(others) == [member.uid]


def _rename(bench: Bench, table: str, to: str) -> None:
    with bench.database.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {to}")


def test_an_unexpected_error_ends_no_heartbeats(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench.record(small_study())
    with other_driver(bench, small_study()) as (_, member):
        send, failures = member.send_heartbeat, [KeyError("a"), RuntimeError("b")]

        def fail_first() -> None:
            if failures:
                raise failures.pop(0)
            send()

        monkeypatch.setattr(member, "send_heartbeat", fail_first)
        before = registered(bench)
        wait_until(lambda: Drivers(bench.database, "small").registered() != [before], timeout_s=60)
        assert failures == []
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [
        KeyError,
        RuntimeError,
    ]


def test_a_killed_driver_of_this_machine_is_dead_at_once(each_bench: Bench) -> None:
    each_bench.record(small_study())
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
        others = Drivers(each_bench.database, "small")
        assert others.dead() == []
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        assert dead(others) == [uid]


def test_a_fenced_driver_commits_nothing(each_bench: Bench) -> None:
    spec = small_study()
    each_bench.record(spec)
    with other_driver(each_bench, spec) as (database, member):
        ledger, trials = Ledger(database, "small", member.uid), Trials(database, spec)
        claimed = claim(ledger)
        opened = trials.open(claimed)
        stop_beating(member)

        closed = end_driver(each_bench.database, "small", registered(each_bench))

        assert closed is not None
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


def test_a_driver_is_taken_over_once(each_bench: Bench) -> None:
    each_bench.record(small_study())
    with other_driver(each_bench, small_study()) as (database, member):
        claim(Ledger(database, "small", member.uid))
        stop_beating(member)
        present = registered(each_bench)
        closed = end_driver(each_bench.database, "small", present)
        assert closed is not None
        assert len(closed) == 1
        assert end_driver(each_bench.database, "small", present) is None


def test_a_takeover_whose_answer_was_lost_counts(
    each_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the dead driver had no open attempt."""
    each_bench.record(small_study())
    transact = each_bench.database.transact

    def twice(work: Callable[[Connection], object]) -> object:
        transact(work)
        return transact(work)

    with other_driver(each_bench, small_study()) as (_, member):
        stop_beating(member)
        present = registered(each_bench)
        monkeypatch.setattr(each_bench.database, "transact", twice)
        assert end_driver(each_bench.database, "small", present) == []


def test_a_peer_that_returns_just_before_its_takeover_is_not_counted_as_dead(
    bench: Bench, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.record(small_study())
    with other_driver(bench, small_study(), lease_s=60) as (_, member):
        stop_beating(member)
        clocks.now = 70

        def end_late(*arguments: Any) -> object:
            member.send_heartbeat()
            return end_driver(*arguments)

        monkeypatch.setattr("tuner.recovery.takeover.end_driver", end_late)
        with closing(bench.journal(small_study())) as journal:
            peers = PeerDrivers(bench.home, bench.database, "small", journal, bench.said.append)
            assert not peers.wait_for_each(lambda: False)
        assert len(Drivers(bench.database, "small").registered()) == 1


def test_a_study_is_not_closed_beside_a_living_driver(bench: Bench) -> None:
    """Though another driver was just taken over."""
    spec = small_study(trials=1)
    summary = bench.run(spec, ScriptedPool())
    closed, _ = read_events(bench.home.parent("small"))
    with closing(bench.journal(spec)) as journal:
        close = partial(
            close_study, bench.home, bench.database, journal, bench.ledger(spec), summary, anew=True
        )
        with other_driver(bench, spec):
            close()
            assert read_events(bench.home.parent("small"))[0] == closed
        close()
    assert isinstance(read_events(bench.home.parent("small"))[0][-1], StudyClosed)
    assert len(read_events(bench.home.parent("small"))[0]) > len(closed)


def test_a_takeover_closes_an_attempt_with_the_outcome_of_its_trial(each_bench: Bench) -> None:
    spec = small_study()
    each_bench.record(spec)
    with other_driver(each_bench, spec) as (database, member):
        trials = Trials(database, spec)
        trials.fail(trials.open(claim(Ledger(database, "small", member.uid))), "as it says")
        stop_beating(member)
        (closed,) = end_driver(each_bench.database, "small", registered(each_bench)) or []
    assert closed.outcome == "failed"
    assert each_bench.ledger(spec).attempts()[0].final


def test_a_driver_takes_over_the_trials_of_a_dead_one_and_closes_its_run(each_bench: Bench) -> None:
    spec = small_study()
    each_bench.record(spec)
    with other_driver(each_bench, spec) as (database, member):
        claimed = claim(Ledger(database, "small", member.uid))
        Trials(database, spec).open(claimed)
        stop_beating(member)

        summary = each_bench.run(spec, ScriptedPool(), lease_s=LEASE_S)

    assert summary.counts["completed"] == len(summary.trials) == 6
    tries = [each.outcome for each in each_bench.ledger(spec).attempts() if each.slot == 0]
    assert tries == ["interrupted", "completed"]
    ((told,), _) = read_events(each_bench.home.attempt("small", 0, 0))
    assert isinstance(told, AttemptAbandoned)
    assert told == AttemptAbandoned(at_ms=told.at_ms, uid=claimed.uid, outcome="interrupted")


def test_a_driver_of_a_cloned_disk_lives_as_long_as_it_sends_heartbeats(
    bench: Bench, clocks: Clocks
) -> None:
    """The two of one home are told apart, although this process holds that home's lock."""
    bench.record(small_study())
    others = Drivers(bench.database, "small")
    home = bench.home.uid
    with (
        other_driver(bench, small_study(), home, lease_s=60) as (_, clone),
        other_driver(bench, small_study(), home, lease_s=60) as (_, killed),
    ):
        for member in (clone, killed):
            stop_beating(member)
        for clocks.now in range(0, 61, 6):
            assert others.dead() == []
            clone.send_heartbeat()
        clocks.now = 66
        assert dead(others) == [killed.uid]


def test_a_driver_that_returns_at_the_last_moment_is_not_taken_over(
    each_bench: Bench, clocks: Clocks
) -> None:
    each_bench.record(small_study())
    with other_driver(each_bench, small_study(), lease_s=60) as (database, member):
        claimed = claim(Ledger(database, "small", member.uid))
        silent = registered(each_bench)
        clocks.now = 70
        member.send_heartbeat()
        assert end_driver(each_bench.database, "small", silent) is None
        assert Ledger(database, "small", member.uid).close(claimed.uid, Outcome.COMPLETED)


def test_the_trials_of_a_silent_driver_of_the_same_home_are_finished(each_bench: Bench) -> None:
    spec = small_study()
    each_bench.record(spec)
    with other_driver(each_bench, spec, each_bench.home.uid, lease_s=2) as (database, member):
        claim(Ledger(database, "small", member.uid))
        stop_beating(member)
        assert each_bench.run(spec, ScriptedPool()).counts["completed"] == 6
    tries = [each.outcome for each in each_bench.ledger(spec).attempts() if each.slot == 0]
    assert tries == ["interrupted", "completed"]


def test_a_driver_whose_study_was_deleted_is_refused(each_bench: Bench) -> None:
    each_bench.record(small_study())
    with other_driver(each_bench, small_study()) as (database, member):
        Catalog(each_bench.database).delete("small")
        with pytest.raises(RefusedError, match="deleted while it ran"):
            claim(Ledger(database, "small", member.uid))


def test_only_the_last_driver_to_leave_learns_that_it_is_the_last(each_bench: Bench) -> None:
    each_bench.record(small_study())
    with (
        other_driver(each_bench, small_study()) as (_, first),
        other_driver(each_bench, small_study()) as (_, second),
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

"""A database that goes away while drivers are at work: nothing is lost, nothing is doubled."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from optuna.trial import FrozenTrial
from sqlalchemy import event

from tests.bench import Bench, ScriptedPool, rising, small_study
from tests.proxy import Proxy, before_postgresql
from tuner.datasets.store import DatasetInfo
from tuner.errors import UnavailableError
from tuner.home import Home
from tuner.search.trials import stored_result
from tuner.spec.study_spec import StudySpec
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog
from tuner.study.driver_events import ProgressEvent, SetupStep
from tuner.training.plan import TrialPlan

TRIALS = 24


@pytest.fixture
def proxy(postgresql: str, monkeypatch: pytest.MonkeyPatch, home: Home) -> Iterator[Proxy]:
    """In front of PostgreSQL, which is the storage for the test."""
    with before_postgresql(postgresql) as proxy:
        monkeypatch.setenv("TUNER_STORAGE_URL", proxy.postgresql_url)
        yield proxy
        proxy.pass_on()
        with open_database(home) as database:
            for name in Catalog(database).names():
                Catalog(database).delete(name)


@pytest.fixture
def away_bench(proxy: Proxy, home: Home, dataset: DatasetInfo) -> Iterator[Bench]:
    assert proxy.port
    with open_database(home) as database:
        yield Bench(home, database, dataset)


@contextmanager
def trouble(proxy: Proxy) -> Iterator[list[str]]:
    """Cuts connections at any moment, every second time after losing the server's answers."""
    over, said = threading.Event(), list[str]()
    chance = random.Random(0)  # noqa: S311 - when it happens

    def make() -> None:
        while not over.wait(chance.uniform(0.05, 0.3)):
            proxy.answers_dropped = chance.random() < 0.5
            over.wait(0.02 * proxy.answers_dropped)
            proxy.cut()
            said.append("dropped" if proxy.answers_dropped else "cut")
            proxy.answers_dropped = False

    thread = threading.Thread(target=make)
    thread.start()
    try:
        yield said
    finally:
        over.set()
        thread.join()


def epochs_of(row: FrozenTrial) -> int:
    epochs = stored_result(row).epochs
    assert epochs is not None
    return epochs


def exactly_once(bench: Bench, spec: StudySpec) -> None:
    rows = bench.trials(spec).all()
    assert [row.number for row in rows] == list(range(spec.trials))
    assert Counter(row.user_attrs["slot"] for row in rows) == Counter(range(spec.trials))
    for row in rows:
        assert row.state.is_finished()
        assert sorted(row.intermediate_values) == list(
            range(1, (stored_result(row).epochs or 0) + 1)
        )
    attempts = bench.ledger(spec).attempts()
    assert [(each.slot, each.number) for each in attempts] == [(n, 0) for n in range(spec.trials)]
    assert all(each.final for each in attempts)


def test_a_connection_lost_while_optuna_reads_the_trials_is_replaced(
    away_bench: Bench, proxy: Proxy
) -> None:
    spec = small_study(trials=2)
    away_bench.run(spec, ScriptedPool())
    engine, said = away_bench.database.engine, list[str]()

    def cut(*arguments: Any) -> None:
        if "FROM trial_params" in arguments[2] and not said:
            proxy.cut()

    event.listen(engine, "before_cursor_execute", cut)
    with away_bench.database.retrying(stopped=lambda: False, say=said.append):
        rows = away_bench.trials(spec).all()
    event.remove(engine, "before_cursor_execute", cut)

    assert [row.number for row in rows] == [0, 1]
    assert len(said) == 1


@pytest.mark.slow
def test_connections_cut_at_any_moment_cost_no_trial(away_bench: Bench, proxy: Proxy) -> None:
    spec = small_study(trials=TRIALS, pruner="median")
    away_bench.record(spec)
    said: list[str] = []

    def hear(event: ProgressEvent) -> None:
        if isinstance(event, SetupStep):
            said.append(event.text)

    with (
        away_bench.database.retrying(stopped=lambda: False, say=said.append),
        trouble(proxy) as made,
    ):
        away_bench.run(spec, ScriptedPool(size=3), notify=hear)
    assert {"dropped", "cut"} <= set(made)
    assert said
    assert said[0].startswith("waiting for the database: ")
    exactly_once(away_bench, spec)


@pytest.mark.slow
def test_drivers_wait_for_a_database_that_is_away(away_bench: Bench, proxy: Proxy) -> None:
    spec = small_study(trials=TRIALS, lease_s=2)
    away_bench.record(spec)
    outages: list[threading.Timer] = []

    def curve(plan: TrialPlan, epoch: int) -> float:
        if plan.slot in (5, 20) and epoch == 2:
            proxy.refuse()
            outages.append(threading.Timer(3, proxy.pass_on))
            outages[-1].start()
        return rising(plan, epoch)

    with away_bench.database.retrying(stopped=lambda: False, say=print):
        away_bench.run(spec, ScriptedPool(size=3, curve=curve), lease_s=2)

    assert len(outages) == 2
    exactly_once(away_bench, spec)


@pytest.mark.slow
def test_a_driver_told_to_stop_while_the_database_is_away_leaves_at_once(
    away_bench: Bench, proxy: Proxy
) -> None:
    spec = small_study(trials=4)
    away_bench.record(spec)
    stopping = threading.Event()

    def curve(plan: TrialPlan, epoch: int) -> float:
        proxy.refuse()
        stopping.set()
        return rising(plan, epoch)

    with (
        pytest.raises(UnavailableError, match="run the same command to resume"),
        away_bench.database as database,
        database.retrying(stopping.is_set, print),
    ):
        away_bench.run(spec, ScriptedPool(curve=curve), stopped=stopping.is_set)

    proxy.pass_on()
    with open_database(away_bench.home) as database:
        again = Bench(away_bench.home, database, away_bench.dataset)
        again.run(spec, ScriptedPool())
        tries = Counter(attempt.slot for attempt in again.ledger(spec).attempts())
        assert tries == Counter({0: 2, 1: 1, 2: 1, 3: 1})

"""Orders: run, pause, stop and the budget, from the database and from the driver's own process."""

import math
from collections.abc import Callable

import pytest

from tests.bench import Bench, ScriptedPool, small_study
from tuner.cli.running.stop import stop
from tuner.driver.orders import Control, Orders
from tuner.driver.run_study import run_study
from tuner.driver.session import shipping_patience
from tuner.errors import DataError, RefusedError, UsageError
from tuner.storage.code_versions import CodeVersions
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog, DesiredState
from tuner.study.driver_events import ProgressEvent, SetupStep, TrialBegan, TrialDone
from tuner.study.driver_lock import only_driver
from tuner.study.study_file import StudyFile


@pytest.fixture(autouse=True)
def polls_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuner.driver.orders._POLL_S", 0.0)


def control(bench: Bench, stopped: Callable[[], bool] = lambda: False) -> Control:
    return Control(Catalog(bench.database), small_study(trials=6), stopped, code="")


def test_orders_follow_the_database(each_bench: Bench) -> None:
    each_bench.record(small_study())
    catalog, orders = Catalog(each_bench.database), control(each_bench)
    assert orders.poll() == Orders(DesiredState.RUN, 6)
    catalog.set_desired_state("small", DesiredState.PAUSE)
    each_bench.record(small_study(trials=4))
    assert orders.poll() == orders.latest == Orders(DesiredState.PAUSE, 4)
    catalog.set_desired_state("small", DesiredState.STOP)
    assert orders.poll() == Orders(DesiredState.STOP, 4)
    catalog.delete("small")
    assert orders.poll() == Orders(DesiredState.STOP, 4)


def test_a_paused_process_stops_when_it_is_told_to(bench: Bench) -> None:
    bench.record(small_study())
    Catalog(bench.database).set_desired_state("small", DesiredState.PAUSE)
    told = [False]
    orders = control(bench, lambda: told[0])
    assert orders.poll().state is DesiredState.PAUSE
    told[0] = True
    assert orders.poll().state is DesiredState.STOP


def test_orders_query_the_database_at_intervals_and_the_process_every_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuner.driver.orders._POLL_S", 3600.0)
    bench.record(small_study())
    told = [False]
    orders = control(bench, lambda: told[0])
    orders.poll()
    Catalog(bench.database).set_desired_state("small", DesiredState.PAUSE)
    assert orders.poll().state is DesiredState.RUN
    told[0] = True
    assert orders.poll().state is DesiredState.STOP


def test_a_driver_ends_when_other_code_is_accepted(bench: Bench) -> None:
    bench.record(small_study())
    orders = control(bench)
    orders.poll()
    CodeVersions(bench.database, "small").update({"net.py": "x"}, trials=0, accepts=True)
    with pytest.raises(UsageError, match="other code was accepted"):
        orders.poll()


def test_a_paused_driver_starts_no_trial_until_it_is_resumed(bench: Bench) -> None:
    spec, said, begun = small_study(), list[str](), list[int]()
    pool, catalog = ScriptedPool(), Catalog(bench.database)

    def observe(event: ProgressEvent) -> None:
        if isinstance(event, TrialDone) and event.number == 1:
            catalog.set_desired_state("small", DesiredState.PAUSE)
        if isinstance(event, SetupStep):
            said.append(event.text)
            begun.append(len(pool.submitted))
            if event.text.startswith("paused"):
                catalog.set_desired_state("small", DesiredState.RUN)

    summary = bench.run(spec, pool, notify=observe)

    assert said == ["paused: no trial begins until: tuner resume small", "resumed"]
    assert begun == [2, 2]
    assert summary.counts["completed"] == 6


def test_a_driver_that_is_stopped_during_a_pause_does_not_say_that_it_resumed(bench: Bench) -> None:
    said, catalog = list[str](), Catalog(bench.database)

    def observe(event: ProgressEvent) -> None:
        if isinstance(event, TrialDone):
            catalog.set_desired_state("small", DesiredState.PAUSE)
        if isinstance(event, SetupStep):
            said.append(event.text)
            catalog.set_desired_state("small", DesiredState.STOP)

    summary = bench.run(small_study(), ScriptedPool(), notify=observe)

    assert said == ["paused: no trial begins until: tuner resume small"]
    assert summary.counts["completed"] == 1


def test_a_budget_that_is_lowered_ends_the_study_early(bench: Bench) -> None:
    def observe(event: ProgressEvent) -> None:
        if isinstance(event, TrialDone):
            bench.record(small_study(trials=2))

    summary = bench.run(small_study(), ScriptedPool(), notify=observe)

    assert (summary.done, summary.slots, summary.counts["completed"]) == (True, 2, 2)


def test_a_trial_beyond_a_lowered_budget_is_retried(bench: Bench) -> None:
    def observe(event: ProgressEvent) -> None:
        if isinstance(event, TrialBegan) and event.number == 2:
            bench.record(small_study(trials=1))

    pool = ScriptedPool(size=3, dies=lambda plan: plan.slot == 2 and plan.attempt == 0)
    summary = bench.run(small_study(trials=3), pool, notify=observe)

    assert (summary.done, summary.counts["completed"]) == (True, 3)
    attempts = bench.ledger(small_study()).attempts()
    assert [each.outcome for each in attempts if each.slot == 2] == ["lost", "completed"]


def test_a_stopped_study_stays_stopped_when_a_run_is_refused(bench: Bench) -> None:
    """It is refused since its data have changed, long after the study was found."""
    bench.record(small_study())
    catalog = Catalog(bench.database)
    catalog.set_desired_state("small", DesiredState.STOP)
    file = StudyFile(small_study(workers=1), "study.yaml", (bench.home.root,))
    with pytest.raises(DataError, match="was started on other data"):
        run_study(file, bench.home)
    assert catalog.desired_state("small") == "stop"


def test_a_driver_that_ships_the_rest_of_a_finished_study_can_be_stopped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.run(small_study(trials=1), ScriptedPool())
    monkeypatch.setenv("TUNER_HOME", str(bench.home.root))
    catalog, told = Catalog(bench.database), [False]
    patience_s = shipping_patience(catalog, "small", lambda: told[0])
    with pytest.raises(RefusedError, match="nothing to stop"):
        stop("small")
    assert patience_s() == math.inf

    with only_driver(bench.home, "small"):  # it has left the study's drivers by then
        stop("small")

    assert patience_s() == 5
    catalog.set_desired_state("small", DesiredState.RUN)
    assert patience_s() == math.inf
    told[0] = True
    assert patience_s() == 5


def test_a_database_without_an_answer_gives_no_order_to_stop(bench: Bench) -> None:
    bench.member(small_study())
    with open_database(bench.home) as database:
        Catalog(database).delete("small")
    told = [False]
    patience = shipping_patience(Catalog(bench.database), "small", lambda: told[0])

    assert patience() == math.inf
    told[0] = True
    assert patience() == 5

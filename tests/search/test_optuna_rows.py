"""What memory says of a study's rows is what the database says, once it is written."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from tests.bench import Bench, small_study
from tuner.errors import RefusedError
from tuner.search.optuna_rows import OptunaRows
from tuner.spec.study_spec import StudySpec
from tuner.storage.drivers import DriverLease
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog

RATE, SIZE = FloatDistribution(1e-4, 1e-1, log=True), CategoricalDistribution((16, 32))


def rows_of(bench: Bench, spec: StudySpec) -> OptunaRows:
    bench.record(spec)
    return OptunaRows(bench.database, spec.name)


def new_row(rows: OptunaRows, slot: int = 0) -> int:
    template = create_trial(
        state=TrialState.RUNNING,
        params={"batch_size": 32},
        distributions={"batch_size": SIZE},
        user_attrs={"slot": slot},
    )
    return rows.create_new_trial(rows.study_id, template)


def stored(bench: Bench, rows: OptunaRows) -> list[FrozenTrial]:
    """What Optuna's own storage reads, dates and the order of a dictionary's keys aside."""
    storage: RDBStorage = bench.database.storage
    return [comparable(row) for row in storage.get_all_trials(rows.study_id)]


def remembered(rows: OptunaRows) -> list[FrozenTrial]:
    return [comparable(row) for row in rows.get_all_trials(rows.study_id)]


def comparable(row: FrozenTrial) -> Any:
    reports = {step: repr(value) for step, value in row.intermediate_values.items()}
    facts = (row.user_attrs, row.system_attrs, row.params, row.distributions, reports)
    return (row.number, row._trial_id, row.state, row.values, *facts)


def change_everything(rows: OptunaRows, trial: int) -> None:
    rows.set_trial_param(trial, "learning_rate", 0.01, RATE)
    for step, value in ((1, 0.5), (2, math.nan), (3, math.inf), (1, 0.75)):
        rows.set_trial_intermediate_value(trial, step, value)
    for fact in ({"a": [1, None]}, "again"):
        rows.set_trial_user_attr(trial, "fact", fact)
        rows.set_trial_system_attr(trial, "rung", fact)


def test_what_is_written_is_what_optuna_reads(each_bench: Bench) -> None:
    rows = rows_of(each_bench, small_study())
    trial = new_row(rows)
    change_everything(rows, trial)
    assert stored(each_bench, rows) != remembered(rows)

    rows.write()

    assert stored(each_bench, rows) == remembered(rows)
    rows.set_trial_state_values(trial, TrialState.COMPLETE, [0.25])
    assert stored(each_bench, rows) == remembered(rows)
    assert remembered(OptunaRows(each_bench.database, "small")) == []  # until it is refreshed


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    changes=st.lists(
        st.tuples(st.sampled_from(["report", "ours", "theirs"]), st.integers(0, 4), st.floats())
    )
)
def test_any_changes_in_any_order_come_out_the_same(
    bench: Bench, changes: list[tuple[str, int, float]]
) -> None:
    rows = rows_of(bench, small_study())
    trial = new_row(rows)
    for kind, key, value in changes:
        if kind == "report":
            rows.set_trial_intermediate_value(trial, key, value)
        elif kind == "ours":
            rows.set_trial_user_attr(trial, f"key {key}", repr(value))
        else:
            rows.set_trial_system_attr(trial, f"key {key}", repr(value))
        if key == 4:
            rows.write()
    rows.write()
    rows.refresh()

    assert remembered(rows) == stored(bench, rows)


def test_another_driver_sees_what_was_written(each_bench: Bench) -> None:
    ours, theirs = (rows_of(each_bench, small_study()) for _ in range(2))
    trial = new_row(ours)
    ours.set_trial_intermediate_value(trial, 1, 0.5)
    theirs.refresh()
    assert theirs.get_trial(trial).intermediate_values == {}

    ours.write()
    theirs.refresh()

    assert remembered(theirs) == remembered(ours)
    ours.set_trial_state_values(trial, TrialState.COMPLETE, [0.5])
    theirs.refresh(max_age_s=60)
    assert theirs.get_trial(trial).state is TrialState.RUNNING
    theirs.refresh()
    assert theirs.get_trial(trial).state is TrialState.COMPLETE


def test_a_held_row_is_ours_until_it_is_released(bench: Bench) -> None:
    ours, theirs = (rows_of(bench, small_study()) for _ in range(2))
    trial = new_row(ours)
    ours.set_trial_user_attr(trial, "who", "we")
    ours.release(trial)
    theirs.refresh()
    theirs.set_trial_user_attr(trial, "who", "they")
    theirs.write()

    ours.refresh()

    assert ours.get_trial(trial).user_attrs["who"] == "they"


def test_a_row_that_another_driver_ended_in_another_way_is_not_ended_again(
    each_bench: Bench,
) -> None:
    ours, theirs = (rows_of(each_bench, small_study()) for _ in range(2))
    trial = new_row(ours)
    theirs.refresh()
    theirs.set_trial_state_values(trial, TrialState.FAIL)
    before = stored(each_bench, ours)

    with pytest.raises(UpdateFinishedTrialError):
        ours.set_trial_state_values(trial, TrialState.COMPLETE, [0.5])

    assert stored(each_bench, ours) == before


@pytest.mark.slow_variants
def test_a_write_whose_answer_was_lost_is_repeated_without_effect(
    each_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(each_bench, small_study())
    with each_bench.database.retrying(stopped=lambda: False, say=print):
        for lost in count():
            with one_answer_lost(each_bench, lost, monkeypatch) as commits:
                ending, open_one = new_row(rows, 2 * lost), new_row(rows, 2 * lost + 1)
                change_everything(rows, ending)
                change_everything(rows, open_one)
                rows.set_trial_state_values(ending, TrialState.COMPLETE, [0.25])

            assert stored(each_bench, rows) == remembered(rows)
            assert [row.user_attrs["slot"] for row in rows.all()] == list(range(2 * lost + 2))
            if next(commits) <= lost:
                break
    assert lost > 3


def test_changes_are_written_all_or_none(
    each_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(each_bench, small_study())
    trial = new_row(rows)
    change_everything(rows, trial)
    before = stored(each_bench, rows)
    with monkeypatch.context() as patched:
        patched.setattr(RDBStorage, "set_trial_system_attr", failing)
        with pytest.raises(OSError, match="died"):
            rows.write()
    assert stored(each_bench, rows) == before

    rows.write()

    assert stored(each_bench, rows) == remembered(rows)


def failing(*_: Any, **_options: Any) -> None:
    raise OSError("died between two writes")


@pytest.mark.slow_variants
def test_no_heartbeat_fails_while_rows_are_created(
    each_bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    spec = small_study()
    rows = rows_of(each_bench, spec)
    with DriverLease(each_bench.database, spec.name, each_bench.home.uid, lease_s=0.03):
        for slot in range(60):
            new_row(rows, slot)
    assert [each for each in caplog.records if each.name == "tuner.storage.drivers"] == []


def test_a_driver_whose_study_is_deleted_learns_it_from_its_next_write(each_bench: Bench) -> None:
    spec = small_study()
    rows = rows_of(each_bench, spec)
    each_bench.member(spec)
    trial = new_row(rows)
    rows.set_trial_intermediate_value(trial, 1, 0.5)
    with open_database(each_bench.home) as database:
        Catalog(database).delete(spec.name)

    with pytest.raises(RefusedError, match="was deleted while it ran"):
        rows.write()


@contextmanager
def one_answer_lost(
    bench: Bench, number: int, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Iterator[int]]:
    """Fails after the commit of this number, as if the connection was lost before the answer.

    Yields a counter of the commits.
    """
    dialect = bench.database.engine.dialect
    commit, commits = dialect.do_commit, count()

    def commit_and_fail(connection: Any) -> None:
        commit(connection)
        if next(commits) == number:
            raise dialect.loaded_dbapi.OperationalError("the answer was lost")

    with monkeypatch.context() as patched:
        patched.setattr(dialect, "do_commit", commit_and_fail)
        yield commits


def test_a_row_that_was_given_out_never_changes(bench: Bench) -> None:
    rows = rows_of(bench, small_study())
    trial = new_row(rows)
    (given_before,) = rows.get_all_trials(rows.study_id, deepcopy=False)

    change_everything(rows, trial)

    assert given_before.params == {"batch_size": 32}
    assert given_before.intermediate_values == {}
    assert rows.get_all_trials(rows.study_id, states=(TrialState.COMPLETE,)) == []

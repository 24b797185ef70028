"""What is read of a recorded training, and which trainings cannot be repeated."""

import shutil
from collections.abc import Callable

import pytest
from sqlalchemy import text

from tests.bench import Bench, ScriptedPool, rising, small_study
from tuner.errors import RefusedError, UsageError
from tuner.spec.study_spec import StudySpec
from tuner.study.driver_events import EpochDone, ProgressEvent
from tuner.study.study import Study
from tuner.tracking.spool.spool import FILE_NAME
from tuner.training.plan import Outcome
from tuner.verification.record import RecordedTraining, read_record

Studied = Callable[..., StudySpec]
Opened = Callable[[StudySpec], Study]


def sources(record: RecordedTraining) -> dict[str, set[tuple[int, str]]]:
    """The epochs and metrics that are recorded, by where."""
    found: dict[str, set[tuple[int, str]]] = {}
    for figure in record.figures:
        found.setdefault(figure.source, set()).add((figure.epoch, figure.metric))
    return found


def test_the_database_has_the_objective_and_the_spool_every_metric_of_each_epoch(
    bench: Bench, studied: Studied, opened: Opened
) -> None:
    spec = studied()
    record = read_record(opened(spec), bench.home, 1)
    each = {(epoch, metric) for epoch in (1, 2, 3) for metric in ("val_accuracy", "loss")}
    objective = {(epoch, "val_accuracy") for epoch in (1, 2, 3)}
    assert sources(record) == {"database": objective | {(3, "loss")}, "spool": each}
    assert (record.outcome, record.epochs, record.best_epoch) == (Outcome.COMPLETED, 3, 3)
    assert [figure.epoch for figure in record.figures] == sorted(f.epoch for f in record.figures)
    assert record.trainer is not None
    assert record.trainer.device == "cpu:0"


def test_a_spool_that_is_another_attempts_or_on_another_machine_is_not_read(
    bench: Bench, studied: Studied, opened: Opened
) -> None:
    spec = studied()
    path = bench.home.attempt(spec.name, 1, 0) / FILE_NAME
    path.write_bytes(path.read_bytes().replace(b'"uid": "', b'"uid": "other-'))
    assert set(sources(read_record(opened(spec), bench.home, 1))) == {"database"}
    shutil.rmtree(bench.home.attempts(spec.name))
    record = read_record(opened(spec), bench.home, 1)
    assert set(sources(record)) == {"database"}
    assert record.trainer is not None, "the database has it too"


def test_reports_that_an_earlier_attempt_may_have_made_are_left_out(
    bench: Bench, opened: Opened
) -> None:
    """The row keeps what the first attempt reported, which may have had other code."""
    spec, heard = small_study(trials=1), list[ProgressEvent]()

    def began() -> bool:
        return any(isinstance(event, EpochDone) for event in heard)

    lower = ScriptedPool(curve=lambda plan, epoch: rising(plan, epoch) - 0.5)
    bench.run(spec, lower, stopped=began, notify=heard.append)
    bench.run(spec, ScriptedPool())
    study = opened(spec)
    (row,) = study.trials.all()
    record = read_record(study, bench.home, 0)
    assert record.attempts == 2
    values = {f.value for f in record.figures if (f.epoch, f.metric) == (1, "val_accuracy")}
    assert row.intermediate_values[1] not in values
    assert len(values) == 1, "of the last attempt's spool"


def test_the_median_seed_of_the_best_point_is_repeated_unless_a_trial_is_named(
    bench: Bench, studied: Studied, opened: Opened
) -> None:
    spec = studied(
        ScriptedPool(curve=lambda plan, epoch: rising(plan, epoch) + plan.seed / 2**40), seeds=3
    )
    study = opened(spec)
    best = study.summary().best
    assert best is not None
    assert read_record(study, bench.home).number == best.trial.number
    assert read_record(study, bench.home, 0).params == {
        "learning_rate": 0.001,
        "batch_size": 32,
    }


def test_a_trial_without_a_result_is_refused(
    bench: Bench, studied: Studied, opened: Opened
) -> None:
    spec = studied(ScriptedPool(fails=lambda plan: plan.slot == 1))
    with pytest.raises(RefusedError, match=r"trial 1 of small failed"):
        read_record(opened(spec), bench.home, 1)
    with pytest.raises(UsageError, match=r"has no trial 2; it has 0 to 1"):
        read_record(opened(spec), bench.home, 2)


def test_a_trial_that_has_not_ended_is_refused(bench: Bench, opened: Opened) -> None:
    spec, heard = small_study(trials=1), list[ProgressEvent]()
    bench.run(spec, ScriptedPool(), stopped=lambda: bool(heard[3:]), notify=heard.append)
    with pytest.raises(RefusedError, match="trial 0 of small is waiting; wait until it has ended"):
        read_record(opened(spec), bench.home, 0)
    with pytest.raises(RefusedError, match="no trial of small has completed"):
        read_record(opened(spec), bench.home)


def test_a_seed_that_is_not_the_studys_is_an_error(
    bench: Bench, studied: Studied, opened: Opened
) -> None:
    spec = studied()
    with bench.database.engine.begin() as connection:
        connection.execute(
            text("UPDATE trial_user_attributes SET value_json = '7' WHERE \"key\" = 'seed'")
        )
    with pytest.raises(UsageError, match=r"its seed is 7, and its study's file gives \d+"):
        read_record(opened(spec), bench.home, 1)

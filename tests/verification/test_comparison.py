"""When a repetition is identical, within noise or different, and what differs first."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from tests.bench import Bench, ScriptedPool, rising
from tuner.search.trials import stored_result
from tuner.spec.study_spec import StudySpec
from tuner.storage.code_versions import CodeVersion
from tuner.study.study import Study
from tuner.tracking.spool.spool import FILE_NAME
from tuner.training.plan import EpochReport, Outcome, Timings, TrainerInfo, TrialError, TrialResult
from tuner.verification.comparison import Agreement, Change, Verification, compare
from tuner.verification.noise import Spread
from tuner.verification.record import RecordedMetric, RecordedTraining, Source, read_record

Studied = Callable[..., StudySpec]
Opened = Callable[[StudySpec], Study]
ResultOf = Callable[[StudySpec, int], TrialResult]

METRIC = "val_accuracy"
HERE = TrainerInfo(
    host="here",
    pid=1,
    assigned="cpu:0",
    device="cpu:0",
    backend="tensorflow",
    versions={"keras": "3.15.1", "tensorflow": "2.21.0"},
    threads=1,
    processor="AMD EPYC",
)
WIDE = Spread(study="small", std=0.02, degrees=8, limit=0.06)


@pytest.fixture
def result() -> TrialResult:
    """A repetition: three epochs, each better than the one before."""
    reports = [
        EpochReport(
            epoch=epoch,
            metrics={"loss": 1 / (epoch + 2), METRIC: 1 - 0.1 / epoch},
            train_s=1.0,
            validation_s=0.1,
            finished_ms=epoch,
        )
        for epoch in (1, 2, 3)
    ]
    return TrialResult(
        state=Outcome.COMPLETED,
        epochs=tuple(reports),
        best_epoch=3,
        evaluation=None,
        model=None,
        timings=Timings(build_s=0.1, train_s=3.0, validation_s=0.3, total_s=3.4),
        peak_memory_mb=100.0,
    )


@pytest.fixture
def record(result: TrialResult) -> RecordedTraining:
    """The record of the same training: here, on one thread, without a digest of the weights."""
    places: list[tuple[str, Source]] = [(METRIC, "database"), (METRIC, "spool"), ("loss", "spool")]
    figures = [
        RecordedMetric(report.epoch, metric, report.metrics[metric], source)
        for report in result.epochs
        for metric, source in places
    ]
    return RecordedTraining(
        number=1,
        slot=1,
        params={},
        outcome=Outcome.COMPLETED,
        epochs=3,
        best_epoch=3,
        value=result.epochs[2].metrics[METRIC],
        figures=tuple(figures),
        weights_sha256="",
        trainer=HERE,
        attempts=1,
        code=CodeVersion(0, "", {}),
    )


def changed(result: TrialResult, epoch: int, **metrics: float) -> TrialResult:
    """The result with other metrics at an epoch."""
    reports = list(result.epochs)
    report = reports[epoch - 1]
    reports[epoch - 1] = report.model_copy(update={"metrics": {**report.metrics, **metrics}})
    return result.model_copy(update={"epochs": tuple(reports)})


def compared(
    record: RecordedTraining,
    result: TrialResult,
    trainer: TrainerInfo = HERE,
    spread: Spread | None = None,
) -> Verification:
    return compare("small", METRIC, record, trainer, result, spread)


def test_equal_figures_are_identical(record: RecordedTraining, result: TrialResult) -> None:
    found = compared(record, result)
    assert (found.agreement, found.first, found.difference) == (Agreement.IDENTICAL, None, 0.0)
    assert (found.figures, found.exact) == ({"database": 3, "spool": 6}, True)
    assert list(found.lines()) == [
        "trial 1 of small: identical",
        "compared 3 epochs: 3 figures in the database, 6 figures in the spool",
        "not recorded: a digest of the weights",
    ]


def test_the_last_bit_makes_a_difference(record: RecordedTraining, result: TrialResult) -> None:
    value = result.epochs[1].metrics["loss"]
    found = compared(record, changed(result, 2, loss=value * (1 + 2**-52)))
    assert found.agreement is Agreement.DIFFERENT
    assert found.first is not None
    assert (found.first.epoch, found.first.figure, found.first.recorded) == (2, "loss", value)
    assert any("repeats bit for bit; so the record was changed" in line for line in found.lines())


def test_a_value_changed_in_the_database_is_found_at_its_epoch(
    bench: Bench, studied: Studied, opened: Opened, result_of: ResultOf
) -> None:
    """Also the one that ranks a trial, which Optuna has in a table of its own."""
    spec = studied()
    with bench.database.engine.begin() as connection:
        connection.execute(text("UPDATE trial_values SET value = 0.99999"))
    found = compared(read_record(opened(spec), bench.home, 1), result_of(spec, 1))
    assert found.first is not None
    assert (found.first.epoch, found.first.recorded) == (3, 0.99999)
    with bench.database.engine.begin() as connection:
        connection.execute(
            text("UPDATE trial_intermediate_values SET intermediate_value = 0.5 WHERE step = 2")
        )
    found = compared(read_record(opened(spec), bench.home, 1), result_of(spec, 1))
    first = found.first
    assert first is not None
    assert (first.epoch, first.figure, first.source) == (2, METRIC, "database")
    assert (first.recorded, first.repeated) == (0.5, result_of(spec, 1).epochs[1].metrics[METRIC])


def test_a_metric_changed_in_the_spool_is_found_at_its_epoch(
    bench: Bench, studied: Studied, opened: Opened, result_of: ResultOf
) -> None:
    spec = studied()
    result = result_of(spec, 1)
    path = bench.home.attempt(spec.name, 1, 0) / FILE_NAME
    lines = []
    for line in path.read_text().splitlines():
        event: dict[str, Any] = json.loads(line)
        if event["kind"] == "epoch-ended" and event["report"]["epoch"] == 1:
            event["report"]["metrics"]["loss"] = 0.25
        lines.append(json.dumps(event))
    path.write_text("\n".join(lines) + "\n")
    found = compared(read_record(opened(spec), bench.home, 1), result)
    assert found.first is not None
    assert (found.first.epoch, found.first.figure, found.first.source) == (1, "loss", "spool")
    assert (found.first.recorded, found.first.repeated) == (0.25, result.epochs[0].metrics["loss"])


def test_weights_are_compared_where_their_digest_is_recorded(
    record: RecordedTraining, result: TrialResult
) -> None:
    known = replace(record, weights_sha256="aa")
    same = compared(known, result.model_copy(update={"weights_sha256": "aa"}))
    assert (same.agreement, same.weights, same.unrecorded) == (Agreement.IDENTICAL, True, ())
    other = compared(known, result.model_copy(update={"weights_sha256": "bb"}))
    assert other.agreement is Agreement.DIFFERENT
    assert other.first is not None
    assert (other.first.figure, other.first.epoch) == ("weights", 3)


def test_a_difference_within_that_of_seeds_is_noise_where_something_can_cause_it(
    record: RecordedTraining, result: TrialResult
) -> None:
    value = result.epochs[2].metrics[METRIC]
    near, far = (changed(result, 3, **{METRIC: value - apart}) for apart in (0.05, 0.07))
    two = HERE.model_copy(update={"threads": 2})
    on_two = replace(record, trainer=two)
    noisy = compared(on_two, near, two, WIDE)
    assert (noisy.agreement, noisy.exact) == (Agreement.WITHIN_NOISE, False)
    assert noisy.difference == pytest.approx(-0.05)
    assert any("differ by at most 0.06 in 95% of all cases" in line for line in noisy.lines())
    assert compared(on_two, far, two, WIDE).agreement is Agreement.DIFFERENT
    unknown = compared(on_two, near, two, None)
    assert unknown.agreement is Agreement.DIFFERENT
    assert any(line.startswith("what seeds change is not known") for line in unknown.lines())
    assert compared(record, near, HERE, WIDE).agreement is Agreement.DIFFERENT, "nothing causes it"


@pytest.mark.parametrize(
    ("update", "change"),
    [
        (
            {"versions": {"keras": "3.15.1", "tensorflow": "2.20.0"}},
            Change(name="tensorflow", recorded="2.20.0", here="2.21.0"),
        ),
        (
            {"versions": {**HERE.versions, "jax": "0.10"}},
            Change(name="jax", recorded="0.10", here="none"),
        ),
        ({"processor": "Intel"}, Change(name="processor", recorded="Intel", here="AMD EPYC")),
        ({"threads": 4}, Change(name="threads", recorded="4", here="1")),
        ({"device": "gpu:1"}, Change(name="device", recorded="gpu", here="cpu")),
    ],
)
def test_what_differs_from_where_it_was_trained_is_named(
    record: RecordedTraining, result: TrialResult, update: dict[str, Any], change: Change
) -> None:
    elsewhere = replace(record, trainer=HERE.model_copy(update=update))
    found = compared(elsewhere, result)
    assert (found.agreement, found.changes) == (Agreement.IDENTICAL, (change,))
    assert not found.exact
    assert f"{change.name}: recorded {change.recorded}, here {change.here}" in list(found.lines())


def test_what_earlier_versions_did_not_record_is_named(
    record: RecordedTraining, result: TrialResult
) -> None:
    old = HERE.model_copy(update={"threads": None, "processor": ""})
    assert compared(replace(record, trainer=old), result).unrecorded == (
        "processor and number of threads",
        "a digest of the weights",
    )
    unknown = compared(replace(record, trainer=None, code=None), result)
    assert unknown.unrecorded == (
        "versions, processor and number of threads",
        "a digest of the weights",
        "the code",
    )
    assert not unknown.exact


def test_a_resumed_trial_may_have_had_other_trainers(
    record: RecordedTraining, result: TrialResult
) -> None:
    assert not compared(replace(record, attempts=2), result).exact


def test_a_repetition_that_fails_is_different_and_says_why(
    record: RecordedTraining, result: TrialResult
) -> None:
    error = TrialError(type="ValueError", message="no such layer", traceback="...")
    ended = {"state": Outcome.FAILED, "epochs": result.epochs[:1], "error": error}
    found = compared(record, result.model_copy(update=ended), spread=WIDE)
    assert found.agreement is Agreement.DIFFERENT
    assert (found.repeated, found.difference) == (None, None)
    assert found.first is not None
    assert (found.first.epoch, found.first.repeated) == (2, None)
    assert "the repeated training failed: ValueError: no such layer" in list(found.lines())


def test_another_number_of_epochs_is_a_difference(
    record: RecordedTraining, result: TrialResult
) -> None:
    longer = (*result.epochs, result.epochs[-1].model_copy(update={"epoch": 4}))
    found = compared(record, result.model_copy(update={"epochs": longer}))
    assert found.first is not None
    assert (found.first.figure, found.first.recorded, found.first.repeated) == ("epochs", 3, 4)


def test_a_pruned_trial_is_compared_up_to_its_last_epoch(
    bench: Bench, studied: Studied, opened: Opened, result_of: ResultOf
) -> None:
    median = {"type": "median", "n_startup_trials": 1, "n_warmup_steps": 2}
    spec = studied(
        ScriptedPool(curve=lambda plan, epoch: rising(plan, epoch) - 0.5 * plan.slot),
        pruner=median,
    )
    study = opened(spec)
    record = replace(read_record(study, bench.home, 1), weights_sha256="aa")
    assert (record.outcome, record.epochs) == (Outcome.PRUNED, 2)
    result = result_of(spec, 1).model_copy(update={"weights_sha256": "aa"})
    late = (*result.epochs, result.epochs[-1].model_copy(update={"epoch": 3}))
    one_more = result.model_copy(update={"epochs": late, "weights_sha256": "of epoch 3"})
    for repetition in (result, one_more):
        found = compared(record, repetition, spread=WIDE)
        assert (found.agreement, found.epochs) == (Agreement.IDENTICAL, 2)
        assert found.weights is (repetition is result)
        assert found.spread is None, "it is that of complete trainings"
    assert next(found.lines()) == "trial 1 of small, up to its pruning: identical"
    assert stored_result(study.trials.all()[1]).epochs == 2

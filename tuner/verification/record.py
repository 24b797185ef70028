"""The record of one training: what it was given, its figures, and where it was trained.

The figures come from two places. The database has the objective of every epoch, all metrics of the
best epoch and a digest of its weights, wherever the trial was trained. The spool has every metric
of every epoch, in the home of the driver that trained it. What MLflow has was sent from that spool,
so it is not asked.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from optuna.trial import FrozenTrial

from tuner.errors import RefusedError, UsageError
from tuner.home import Home
from tuner.search.points import trial_seed
from tuner.search.trials import StoredResult, stored_result
from tuner.spec.search_space import Scalar
from tuner.storage.attempts import Attempt
from tuner.storage.code_versions import CodeVersion
from tuner.study.study import Study
from tuner.study.summary import StudySummary
from tuner.tracking.spool.spool import read_events
from tuner.tracking.spool.spool_events import AttemptEnded, AttemptStarted, Event, TrialSummary
from tuner.training.plan import EpochEnded, EpochReport, Outcome, TrainerInfo

Source = Literal["database", "spool"]


@dataclass(frozen=True)
class RecordedMetric:
    """A recorded metric of one epoch."""

    epoch: int
    metric: str
    value: float
    source: Source


@dataclass(frozen=True)
class RecordedTraining:
    """A completed or pruned trial, as it is recorded."""

    number: int
    slot: int
    params: dict[str, Scalar]
    """Every parameter, including the fixed ones."""
    outcome: Outcome
    epochs: int
    """The number of trained epochs."""
    best_epoch: int
    value: float
    """The objective at the best epoch."""
    figures: tuple[RecordedMetric, ...]
    """By epoch; the objective first, then by name."""
    weights_sha256: str
    """Of the best epoch; empty if it was not recorded."""
    trainer: TrainerInfo | None
    """None if it was not recorded."""
    attempts: int
    """The number of attempts; each may have had another trainer."""
    code: CodeVersion | None
    """The user's code that trained it; None if it was not recorded."""


def read_record(study: Study, home: Home, number: int | None = None) -> RecordedTraining:
    """Reads the record of the trial that represents the best point, or of trial `number`.

    Args:
        study: the trial's study.
        home: the home whose spools are read.
        number: the trial's number.

    Raises:
        UsageError: there is no such trial, or its row was changed, not by tuner.
        RefusedError: no trial has completed, or this one has neither completed nor been pruned.
    """
    trial = _trial(study.summary(), number)
    row = study.trials.by_slot()[trial.slot]
    result, attempts = stored_result(row), study.attempts(trial.slot)
    if result.best_epoch is None or result.value is None or result.epochs is None:
        raise _damaged(study, trial.number, "its result is missing")
    _check_seed(study, trial, row)
    told = _spool(home, study, attempts[-1]) if attempts else []
    started = next((each for each in told if isinstance(each, AttemptStarted)), None)
    metric = study.spec.objective.metric
    found = {*_stored(metric, row, result, len(attempts)), *_spooled(_reports(told))}
    return RecordedTraining(
        number=trial.number,
        slot=trial.slot,
        params={**study.spec.fixed, **row.params},
        outcome=Outcome(trial.state),
        epochs=result.epochs,
        best_epoch=result.best_epoch,
        value=result.value,
        figures=tuple(sorted(found, key=lambda each: _place(each, metric))),
        weights_sha256=result.weights_sha256,
        trainer=result.trainer or (started.trainer if started else None),
        attempts=len(attempts),
        code=study.code_versions.that_trained(trial.number, result.code),
    )


def _trial(summary: StudySummary, number: int | None) -> TrialSummary:
    if number is None:
        return summary.best_point().trial
    trial = summary.trial(number)
    if trial.state == Outcome.FAILED:
        raise RefusedError(
            f"trial {number} of {summary.study} failed, so it has no result to compare with"
        )
    if trial.state not in (Outcome.COMPLETED, Outcome.PRUNED):
        raise RefusedError(
            f"trial {number} of {summary.study} is {trial.state}; wait until it has ended"
        )
    return trial


def _check_seed(study: Study, trial: TrialSummary, row: FrozenTrial) -> None:
    recorded, derived = row.user_attrs.get("seed"), trial_seed(study.spec, trial.slot)
    if recorded != derived:
        raise _damaged(
            study, trial.number, f"its seed is {recorded}, and its study's file gives {derived}"
        )


def _damaged(study: Study, number: int, why: str) -> UsageError:
    return UsageError(
        f"trial {number} of {study.name}: its row in the database is not what this version of "
        f"tuner wrote there: {why}"
    )


def _spool(home: Home, study: Study, attempt: Attempt) -> list[Event]:
    """The events of an attempt; none if its spool is not in this home."""
    told, _ = read_events(home.attempt(study.name, attempt.slot, attempt.number))
    ours = any(isinstance(each, AttemptStarted) and each.uid == attempt.uid for each in told)
    return told if ours else []


def _reports(told: Iterable[Event]) -> Iterator[EpochReport]:
    for event in told:
        if isinstance(event, EpochEnded):
            yield event.report
        elif isinstance(event, AttemptEnded) and event.result is not None:
            yield from event.result.epochs


def _spooled(reports: Iterable[EpochReport]) -> Iterator[RecordedMetric]:
    for report in reports:
        for metric, value in report.metrics.items():
            yield RecordedMetric(report.epoch, metric, value, "spool")


def _stored(
    metric: str, row: FrozenTrial, result: StoredResult, attempts: int
) -> Iterator[RecordedMetric]:
    """The figures in the database.

    A report stays as the first attempt wrote it. That may have trained with other code, so with
    several attempts the reports are left out.
    """
    if attempts == 1:
        for epoch, value in row.intermediate_values.items():
            yield RecordedMetric(epoch, metric, value, "database")
    assert result.best_epoch is not None
    best = dict(result.best_metrics)
    for name, value in best.items():
        yield RecordedMetric(result.best_epoch, name, value, "database")
    ranked = row.value if row.value is not None and row.state.name == "COMPLETE" else None
    for told in (result.value, ranked):
        if told is not None:
            yield RecordedMetric(result.best_epoch, metric, told, "database")


def _place(figure: RecordedMetric, objective: str) -> tuple[int, bool, str, str, float]:
    first = figure.metric != objective
    return figure.epoch, first, figure.metric, figure.source, figure.value

"""Turns an attempt's events into updates of its child run.

MLflow has fewer statuses than tuner has outcomes. Completed and pruned attempts are FINISHED,
failed ones FAILED, and those that were handed back (interrupted or lost) KILLED. The tag
`tuner.state` has the outcome.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final, Self

from tuner.errors import RefusedError
from tuner.tracking.runs.attempt_ending import ending_artifacts, ending_points, ending_tags
from tuner.tracking.runs.exports import as_json, column, evaluation_json
from tuner.tracking.runs.run_update import Artifact, Point, RunOpening, RunStatus, RunUpdate
from tuner.tracking.runs.study_run import KIND_TAG, STUDY_TAG, STUDY_UID_TAG
from tuner.tracking.spool.spool_events import (
    AttemptAbandoned,
    AttemptEnded,
    AttemptStarted,
    Event,
    ModelDisplaced,
    ModelKept,
)
from tuner.training.plan import (
    EpochEnded,
    EpochReport,
    Outcome,
    SystemSample,
    SystemSampled,
    TrialResult,
)

TRIAL_ARTIFACT = "trial.json"
MODEL_ARTIFACT = "model/model.keras"
MODEL_SHA256_TAG = "tuner.model.sha256"
_MODEL_MISSING_TAG: Final = "tuner.model.missing"

_STATUS: dict[Outcome, RunStatus] = {
    Outcome.COMPLETED: "FINISHED",
    Outcome.PRUNED: "FINISHED",
    Outcome.FAILED: "FAILED",
    Outcome.INTERRUPTED: "KILLED",
    Outcome.LOST: "KILLED",
}


@dataclass(frozen=True)
class AttemptRun:
    """The run of an attempt, as far as its spool has been read."""

    opening: RunOpening
    """The child run."""
    started: AttemptStarted | None = None
    """The event that began the attempt, if the spool has it."""
    epochs: tuple[EpochReport, ...] = ()
    samples: int = 0

    @classmethod
    def of(cls, started: AttemptStarted) -> Self:
        """The run of an attempt that has just started."""
        return cls(_opening(started), started)

    @classmethod
    def foreign(cls, uid: str, at_ms: int = 0) -> Self:
        """The run of an attempt of another home, or whose spool has lost its first event."""
        return cls(RunOpening(uid=uid, name="", started_ms=at_ms, foreign=True))

    def after(self, event: Event) -> Self:
        """The state after one more event."""
        match event:
            case EpochEnded(report=report) if not self._knows(report):
                return replace(self, epochs=(*self.epochs, report))
            case SystemSampled():
                return replace(self, samples=self.samples + 1)
        return self

    def update(self, event: Event) -> RunUpdate:
        """What `event` changes in the run.

        Raises:
            RefusedError: the event belongs into the parent's spool.
        """
        match event:
            case AttemptStarted():
                return _started(event)
            case EpochEnded(report=report):
                return RunUpdate(points=() if self._knows(report) else _epoch_points(report))
            case SystemSampled(sample=sample):
                return RunUpdate(points=_sample_points(sample, self.samples))
            case ModelKept():
                return _kept(event)
            case ModelDisplaced():
                return _displaced()
            case AttemptEnded():
                return self._ended(event)
            case AttemptAbandoned():
                return _abandoned(event)
        raise RefusedError(f"{event.kind}: belongs into the parent's spool, not an attempt's")

    def _knows(self, report: EpochReport) -> bool:
        return any(known.epoch == report.epoch for known in self.epochs)

    def _ended(self, event: AttemptEnded) -> RunUpdate:
        missed = [
            report
            for report in (event.result.epochs if event.result else ())
            if not self._knows(report)
        ]
        points = [point for report in missed for point in _epoch_points(report)]
        epochs = sorted((*self.epochs, *missed), key=lambda report: report.epoch)
        record = [_trial_json(self.started, epochs, event.result)] if self.started else []
        return RunUpdate(
            points=(*points, *ending_points(event)),
            tags=ending_tags(event),
            artifacts=(*record, *ending_artifacts(event, epochs, self.opening.name)),
            status=_STATUS[event.outcome],
            ended_ms=event.at_ms,
        )


def _opening(started: AttemptStarted) -> RunOpening:
    plan = started.plan
    name = started.name or f"trial {started.number}"
    return RunOpening(
        uid=started.uid,
        name=f"{name} attempt {plan.attempt}" if plan.attempt else name,
        started_ms=started.at_ms,
        tags=started.tags,
        parent_uid=started.tags.get(STUDY_UID_TAG),
        predecessor_uid=started.predecessor,
        again=started.again,
    )


def _abandoned(event: AttemptAbandoned) -> RunUpdate:
    reason = {"tuner.reason": event.reason} if event.reason else {}
    return RunUpdate(
        tags={"tuner.state": event.outcome.value, **reason},
        status=_STATUS[event.outcome],
        ended_ms=event.at_ms,
    )


def _started(event: AttemptStarted) -> RunUpdate:
    return RunUpdate(
        params=attempt_params(event),
        tags=_attempt_tags(event),
        artifacts=(
            _trial_json(event),
            *(Artifact(_source_path(name), text) for name, text in event.source.items()),
        ),
        dataset=event.dataset,
    )


def _trial_json(
    started: AttemptStarted,
    epochs: Sequence[EpochReport] = (),
    result: TrialResult | None = None,
) -> Artifact:
    """The artifact with everything about the attempt, for programs. The end replaces it."""
    content = {
        "plan": {
            **started.plan.model_dump(mode="json"),
            "recipe": started.plan.recipe.model_dump(mode="json"),
        },
        "epochs": [_epoch_row(report) for report in epochs],
        "best_epoch": result.best_epoch if result else None,
        "evaluation": evaluation_json(result.evaluation) if result and result.evaluation else None,
    }
    return Artifact(TRIAL_ARTIFACT, as_json(content))


def attempt_params(event: AttemptStarted) -> dict[str, str]:
    """The params of a child run, with the same names in every run of a study.

    A hyperparameter with the name of one of tuner's own params gets the prefix `search_space.`.
    """
    plan = event.plan
    own = {
        "dataset": event.dataset.name,
        "model": plan.model.name,
        "epochs": plan.epochs,
        "precision": plan.precision,
        "validation": plan.validation,
        "seed": plan.seed,
    }
    theirs = {**plan.params, **plan.recipe.model_dump()}
    apart = {column(name, own): value for name, value in theirs.items()}
    return {key: str(value) for key, value in {**apart, **own}.items()}


def _attempt_tags(event: AttemptStarted) -> dict[str, str]:
    plan, trainer = event.plan, event.trainer
    versions = {f"tuner.version.{name}": text for name, text in trainer.versions.items()}
    tags = {
        KIND_TAG: "trial",
        "tuner.state": "running",
        STUDY_TAG: event.tags.get(STUDY_TAG, plan.study),
        "tuner.trial": str(event.number),
        "tuner.slot": str(plan.slot),
        "tuner.attempt": str(plan.attempt),
        "tuner.seed": str(plan.seed),
        "tuner.host": trainer.host,
        "tuner.pid": str(trainer.pid),
        "tuner.device": trainer.device,
        "tuner.backend": trainer.backend,
        "tuner.dataset_digest": event.dataset.digest,
    }
    known = {"tuner.threads": trainer.threads, "tuner.processor": trainer.processor}
    tags |= {name: str(value) for name, value in known.items() if value}
    predecessor = {"tuner.predecessor": event.predecessor} if event.predecessor else {}
    return {**event.tags, **versions, **tags, **predecessor}


def _source_path(name: str) -> str:
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..")]
    return str(PurePosixPath("source", *parts))


def _epoch_row(report: EpochReport) -> dict[str, float]:
    return {"epoch": report.epoch, **_epoch_values(report)}


def _epoch_points(report: EpochReport) -> tuple[Point, ...]:
    return tuple(
        Point(key, value, report.finished_ms, report.epoch)
        for key, value in _epoch_values(report).items()
    )


def _epoch_values(report: EpochReport) -> dict[str, float]:
    seconds = {"epoch_train_s": report.train_s, "epoch_validation_s": report.validation_s}
    return {**report.metrics, **seconds}


def _sample_points(sample: SystemSample, ordinal: int) -> tuple[Point, ...]:
    """Points with the names and steps of MLflow's own system metrics, so that its UI shows them."""
    return tuple(
        Point(f"system/{key.removeprefix('system/')}", value, sample.at_ms, ordinal)
        for key, value in sample.values.items()
    )


def _kept(event: ModelKept) -> RunUpdate:
    if not event.path.exists():
        return RunUpdate(tags={_MODEL_MISSING_TAG: str(event.path)})
    return RunUpdate(
        tags={MODEL_SHA256_TAG: event.sha256},
        artifacts=(Artifact(MODEL_ARTIFACT, event.path),),
    )


def _displaced() -> RunUpdate:
    return RunUpdate(
        removed_tags=(MODEL_SHA256_TAG, _MODEL_MISSING_TAG),
        removed_artifacts=(PurePosixPath(MODEL_ARTIFACT).parts[0],),
    )

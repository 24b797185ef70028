"""What a study's events mean for its parent run."""

from dataclasses import dataclass, replace
from typing import Self

from tuner.errors import RefusedError
from tuner.tracking.events import Event, StudyClosed, StudyOpened, StudyProgressed
from tuner.tracking.figures import history_figure, importance_figure
from tuner.tracking.tables import as_json, optimization_history, summary_csv
from tuner.tracking.updates import Artifact, Point, RunOpening, RunStatus, RunUpdate

STUDY_UID_TAG = "tuner.study_uid"
"""On the parent and on every child: what names the study among all studies."""

_ENDED = ("completed", "pruned", "failed")


@dataclass(frozen=True)
class StudyRun:
    """A study as far as its spool has been read."""

    opened: StudyOpened
    last_step: int = -1
    """The step of the newest metrics: how many trials had ended."""

    @property
    def opening(self) -> RunOpening:
        """The parent run."""
        return RunOpening(
            uid=self.opened.tags.get(STUDY_UID_TAG, f"study:{self.opened.study}"),
            name=self.opened.study,
            started_ms=self.opened.at_ms,
            tags=self.opened.tags,
        )

    def after(self, event: Event) -> Self:
        """The study once `event` has been read too."""
        match event:
            case StudyOpened():
                return replace(self, opened=event)
            case StudyProgressed():
                return replace(self, last_step=max(self.last_step, _step(event)))
        return self

    def update(self, event: Event, *, superseded: bool) -> RunUpdate:
        """What `event` changes; a `superseded` one leaves artifacts to a newer event."""
        match event:
            case StudyOpened():
                return _opened(event)
            case StudyProgressed():
                return RunUpdate(
                    points=self._points(event),
                    artifacts=() if superseded else _progress_artifacts(event),
                )
            case StudyClosed():
                return _closed(event)
        raise RefusedError(f"{event.kind}: must stand in an attempt's spool, not in the parent's")

    def _points(self, event: StudyProgressed) -> tuple[Point, ...]:
        """None when no trial has ended since: a metric has one point a step."""
        step = _step(event)
        if step <= self.last_step:
            return ()
        return tuple(Point(key, value, event.at_ms, step) for key, value in event.metrics.items())


def _step(event: StudyProgressed) -> int:
    return sum(trial.state in _ENDED for trial in event.trials)


def _opened(event: StudyOpened) -> RunUpdate:
    artifacts = [Artifact("study.yaml", event.study_file)]
    if event.uncommitted:
        artifacts.append(Artifact("uncommitted.diff", event.uncommitted))
    return RunUpdate(
        params=event.params,
        tags={**event.tags, "tuner.kind": "study", "tuner.state": "running"},
        artifacts=tuple(artifacts),
        status="RUNNING",
    )


def _closed(event: StudyClosed) -> RunUpdate:
    state, status = _ending(event)
    return RunUpdate(tags={"tuner.state": state}, status=status, ended_ms=event.at_ms)


def _ending(event: StudyClosed) -> tuple[str, RunStatus]:
    if event.failed:
        return "failed", "FAILED"
    return ("completed", "FINISHED") if event.complete else ("interrupted", "KILLED")


def _progress_artifacts(event: StudyProgressed) -> tuple[Artifact, ...]:
    trials = [trial.model_dump(mode="json") for trial in event.trials]
    history = [point.model_dump() for point in optimization_history(event)]
    artifacts = [
        Artifact("summary.csv", summary_csv(event.trials)),
        Artifact("summary.json", as_json(trials)),
        Artifact("optimization_history.json", as_json(history)),
        Artifact("optimization_history.png", history_figure(event)),
    ]
    if event.importance:
        artifacts += [
            Artifact("parameter_importance.json", as_json(event.importance)),
            Artifact("parameter_importance.png", importance_figure(event.importance)),
        ]
    return tuple(artifacts)

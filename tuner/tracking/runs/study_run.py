"""Turns a study's events into updates of its parent run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from tuner.datasets.store import has_arrays
from tuner.errors import RefusedError
from tuner.tracking.runs.exports import (
    PointFigures,
    as_json,
    claims_csv,
    counts,
    missed_csv,
    optimization_history,
    point_figures,
    points_csv,
    refit_section,
    search_section,
    summary_csv,
    verdict_section,
)
from tuner.tracking.runs.figures import Figure, HistoryFigure, ImportanceFigure, MissedFigure
from tuner.tracking.runs.run_update import (
    Artifact,
    NoteSection,
    Point,
    RunOpening,
    RunStatus,
    RunUpdate,
)
from tuner.tracking.spool.spool_events import (
    Event,
    Missed,
    StudyClosed,
    StudyOpened,
    StudyProgressed,
    TrialSummary,
)
from tuner.training.plan import Outcome

STUDY_UID_TAG = "tuner.study_uid"
"""Tag of the parent run and every child run: the study's uid."""

KIND_TAG = "tuner.kind"
"""Tag of every run: `study` for a parent run, `trial` for a child run."""

STUDY_TAG, ROLE_TAG = "tuner.study", "tuner.role"
"""Tags of every run: the study's name, and what the run's own study is to it. A confirmation and a
refit have the name of their study, so one filter finds all runs of the three."""

ORIGIN_TAG = "tuner.origin_uid"
"""Tag of the parent run of a confirmation or refit: the uid of its study, while that exists."""

CLAIMS_TAG = "tuner.claims"
"""Tag of the parent run of a race with claims: how many have which verdict."""

TABLES = (
    "summary.csv",
    "summary.json",
    "optimization_history.json",
    "optimization_history.png",
)
"""Artifacts of the parent run once a trial has ended, beside points and importances."""

MISSED_TABLE = "missed.csv"
"""The artifact of a confirmation's run with the images that every good training missed."""

POINT_METRICS = "points"
"""The group of the metrics whose step is the number of a point: MLflow draws groups apart."""

_ENDED = tuple(outcome.value for outcome in Outcome if not outcome.hands_back)


@dataclass(frozen=True)
class StudyRun:
    """The run of a study, as far as its spool has been read."""

    opened: StudyOpened
    last_step: int = -1
    """The step of the newest metrics: the number of ended trials."""
    progress: StudyProgressed | None = None
    """The newest progress event."""
    trials: Mapping[int, TrialSummary] = field(default_factory=dict)
    runs: Mapping[str, str] = field(default_factory=dict)
    """The MLflow run id of each attempt, by uid, as far as known."""
    importance: Mapping[str, float] = field(default_factory=dict)
    missed: Missed | None = None
    verdict: tuple[str, ...] = ()
    """What a confirmation has found, in words."""
    figures: tuple[PointFigures, ...] = ()
    """Of each point, as they were when every trial had ended."""
    undrawn: bool = False
    """Whether tables and figures are out of date."""

    @property
    def opening(self) -> RunOpening:
        """The parent run. That of a confirmation or refit lies below its study's."""
        return RunOpening(
            uid=self.opened.tags.get(STUDY_UID_TAG, f"study:{self.opened.study}"),
            name=self.opened.study,
            started_ms=self.opened.at_ms,
            tags=self.opened.tags,
            below=self.opened.tags.get(ORIGIN_TAG),
        )

    def after(self, event: Event) -> Self:
        """The state after one more event."""
        match event:
            case StudyOpened():
                return replace(self, opened=event)
            case StudyProgressed():
                told = {trial.number: _with_run(trial, self.runs) for trial in event.trials}
                return replace(
                    self,
                    last_step=max(self.last_step, _step(event)),
                    progress=event,
                    trials={**self.trials, **told},
                    importance=event.importance or self.importance,
                    missed=event.missed or self.missed,
                    verdict=event.verdict or self.verdict,
                    undrawn=True,
                )
            case StudyClosed():
                return replace(self, undrawn=False, figures=self._final(event))
        return self

    def knowing(self, runs: Mapping[str, str]) -> Self:
        """The state with more run ids of attempts, by uid."""
        trials = {number: _with_run(trial, runs) for number, trial in self.trials.items()}
        return replace(
            self, runs=runs, trials=trials, undrawn=self.undrawn or trials != self.trials
        )

    def update(self, event: Event) -> RunUpdate:
        """What `event` changes in the run. The end adds outdated tables and figures.

        Raises:
            RefusedError: the event belongs into an attempt's spool.
        """
        match event:
            case StudyOpened():
                return _opened(event)
            case StudyProgressed():
                return RunUpdate(points=self._points(event), tags=_claim_tags(event))
            case StudyClosed():
                artifacts = self.artifacts() if self.undrawn else ()
                section = self._section(event)
                return replace(
                    _closed(event),
                    points=self._point_metrics(event),
                    artifacts=artifacts,
                    sections=section,
                    sections_above=section if self.verdict else (),
                )
        raise RefusedError(f"{event.kind}: belongs into an attempt's spool, not the parent's")

    def artifacts(self) -> tuple[Artifact, ...]:
        """Tables and figures of all trials in the spool."""
        if self.progress is None:
            return ()
        trials = [self.trials[number] for number in sorted(self.trials)]
        metric, seeds = self.progress.metric, self.progress.seeds
        history = optimization_history(trials, self.progress.direction, seeds)
        contents: tuple[str | Figure, ...] = (
            summary_csv(trials, seeds),
            as_json([trial.model_dump(mode="json") for trial in trials]),
            as_json([each.model_dump() for each in history]),
            HistoryFigure(trials, history, metric),
        )
        artifacts = [Artifact(*table) for table in zip(TABLES, contents, strict=True)]
        artifacts.append(Artifact("points.csv", points_csv(trials, self.progress.direction, seeds)))
        if self.progress.claims:
            artifacts.append(Artifact("claims.csv", claims_csv(self.progress.claims)))
        if self.importance:
            artifacts += [
                Artifact("parameter_importance.json", as_json(self.importance)),
                Artifact("parameter_importance.png", ImportanceFigure(self.importance)),
            ]
        return (*artifacts, *self._missed())

    def _missed(self) -> Iterator[Artifact]:
        """The table of missed images, and their picture while the data set is there."""
        if self.missed is None:
            return
        yield Artifact(MISSED_TABLE, missed_csv(self.missed.images))
        if has_arrays(self.missed.folder):
            yield Artifact("missed.png", MissedFigure(self.missed, self.opened.study))

    def _section(self, event: StudyClosed) -> tuple[NoteSection, ...]:
        """The result in words, once the study is done, from the home that records its metrics."""
        if not event.complete or self.progress is None or not self.progress.metrics:
            return ()
        role = self.opened.tags.get(ROLE_TAG, "study")
        if role == "refit":
            return (NoteSection("Refit", refit_section(self.opened.tags.get(STUDY_TAG, ""))),)
        if self.verdict:
            return (
                NoteSection("Confirmation", verdict_section(self.verdict, self.progress.claims)),
            )
        if role == "confirmation":
            return ()
        best = next(iter(self._final(event)), None)
        text = search_section(
            self.opened.params, list(self.trials.values()), self.progress.metric, best
        )
        return (NoteSection("Search", text),)

    def _points(self, event: StudyProgressed) -> tuple[Point, ...]:
        """The metrics; none if no trial has ended since, so that a step has one point."""
        step = _step(event)
        if step <= self.last_step:
            return ()
        return tuple(Point(key, value, event.at_ms, step) for key, value in event.metrics.items())

    def _final(self, event: StudyClosed) -> tuple[PointFigures, ...]:
        """The figures of all points once the study is done; before that, those known so far.

        A home that does not record the study's metrics knows none.
        """
        if not event.complete or self.progress is None or not self.progress.metrics:
            return self.figures
        return point_figures(
            list(self.trials.values()), self.progress.direction, self.progress.seeds
        )

    def _point_metrics(self, event: StudyClosed) -> tuple[Point, ...]:
        """The figures that are new, by the number of the point instead of a time."""
        new = [each for each in self._final(event) if each not in self.figures]
        return tuple(
            Point(f"{POINT_METRICS}/{name}", value, event.at_ms, each.point)
            for each in new
            for name, value in (("mean", each.mean), ("std", each.std), ("n", float(each.n)))
            if value is not None
        )


def _claim_tags(event: StudyProgressed) -> dict[str, str]:
    """The tag that counts the claims by their verdict, such as `3 confirmed, 1 undecided`."""
    told = counts(claim.verdict for claim in event.claims)
    return {CLAIMS_TAG: told} if told else {}


def _with_run(trial: TrialSummary, runs: Mapping[str, str]) -> TrialSummary:
    run_id = runs.get(trial.uid or "", trial.run_id)
    return trial if run_id == trial.run_id else trial.model_copy(update={"run_id": run_id})


def _step(event: StudyProgressed) -> int:
    return int(sum(event.metrics.get(f"trials_{state}", 0) for state in _ENDED))


def _opened(event: StudyOpened) -> RunUpdate:
    artifacts = [Artifact("study.yaml", event.study_file)]
    artifacts += [Artifact(f"code/{path}", text) for path, text in event.code.items()]
    if event.uncommitted:
        artifacts.append(Artifact("uncommitted.diff", event.uncommitted))
    return RunUpdate(
        params=event.params,
        tags={**event.tags, KIND_TAG: "study", "tuner.state": "running"},
        artifacts=tuple(artifacts),
        status="RUNNING",
    )


def _closed(event: StudyClosed) -> RunUpdate:
    outcome, status = _ending(event)
    return RunUpdate(tags={"tuner.state": outcome.value}, status=status, ended_ms=event.at_ms)


def _ending(event: StudyClosed) -> tuple[Outcome, RunStatus]:
    if event.failed:
        return Outcome.FAILED, "FAILED"
    if event.complete:
        return Outcome.COMPLETED, "FINISHED"
    return Outcome.INTERRUPTED, "KILLED"

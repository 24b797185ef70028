"""The journal: writes the events of a study into its spools, which another process ships."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ValidationError

from tuner.clock import now_ms
from tuner.errors import UsageError
from tuner.home import Home
from tuner.recording.provenance import Provenance
from tuner.search.importance import Importance
from tuner.search.points import point_of, replicate_of
from tuner.search.ranking import PointSummary
from tuner.search.trials import Trials
from tuner.spec.study_spec import StudySpec
from tuner.spec.text.writer import to_yaml
from tuner.storage.attempts import Attempt, ClosedAttempt
from tuner.storage.code_versions import CodeVersion
from tuner.storage.database import Database
from tuner.storage.studies import Catalog, StudyRecord
from tuner.study.confirmation.missed import find_missed
from tuner.study.confirmation.report import verdict_of
from tuner.study.study import Study
from tuner.study.summary import Standing, StudySummary
from tuner.tracking.runs.study_run import ORIGIN_TAG, ROLE_TAG, STUDY_TAG, STUDY_UID_TAG
from tuner.tracking.spool import spool_events
from tuner.tracking.spool.backlog import Backlog
from tuner.tracking.spool.shipped import survey
from tuner.tracking.spool.spool import is_begun, is_own, read_events, read_lines
from tuner.tracking.spool.spool_events import Missed, TrialSummary
from tuner.training.plan import (
    EpochEnded,
    Outcome,
    SystemSampled,
    TrainerInfo,
    TrialPlan,
    TrialResult,
)

_ENDS = ("attempt-ended", "attempt-abandoned")
CODE_TAG = "tuner.code"
"""The MLflow tag with the digest of the user's code."""


class _Found(NamedTuple):
    """What follows from all trials together."""

    importance: Importance
    missed: Missed | None
    verdict: tuple[str, ...]


class Journal:
    """The spools of one study in one home folder."""

    def __init__(
        self,
        home: Home,
        database: Database,
        record: StudyRecord,
        code: Provenance,
        trials: Trials,
        versions: Sequence[CodeVersion] = (),
        *,
        leads: Callable[[], bool] = lambda: True,
        say: Callable[[str], None],
    ) -> None:
        """Opens the journal.

        Args:
            home: where the spools are; the caller holds its driver lock.
            database: its database, read when the run of a confirmation is opened or closed.
            record: the study.
            code: where the user's code came from.
            trials: its trials, read when the study's run is closed.
            versions: the versions of the user's code.
            leads: whether this driver records the study as a whole; one of several drivers does.
            say: receives messages for people, for example that the disk is full.
        """
        home.set_current(record.name, record.uid)
        self._trials = trials
        self._leads = leads
        self._home = home
        self._database = database
        self._record = record
        self._code = code
        self._versions = versions
        self._spools = Backlog(say)
        self._openings: dict[Path, spool_events.StudyOpened | spool_events.AttemptStarted] = {}
        """The first events of the spools that this journal has begun and not ended."""
        self._told: dict[int, TrialSummary] = {}
        """The summary of each trial that this journal has written last."""

    def study_opened(self) -> None:
        """Records that a driver opened the study, if this driver leads."""
        if self._leads():
            self._open()

    def _open(self) -> None:
        """Begins the study's own spool, once."""
        folder = self._home.parent(self._record.name)
        if folder in self._openings:
            return
        spec = self._record.spec
        self._begin(
            folder,
            spool_events.StudyOpened(
                at_ms=now_ms(),
                study=spec.name,
                study_file=to_yaml(spec),
                params={
                    "dataset": spec.dataset.name,
                    "model": spec.model,
                    "sampler": spec.sampler.type,
                    "pruner": spec.pruner.type,
                    "objective": spec.objective.metric,
                    "epochs": str(spec.epochs),
                    "seed": str(spec.seed),
                },
                tags=self._tags() | self._origin() | _told(self._versions),
                uncommitted=self._code.uncommitted,
                code={
                    f"from-trial-{version.from_trial}/{path}": text
                    for version in self._versions
                    for path, text in version.files.items()
                },
            ),
        )

    def study_progressed(self, standing: Standing, trials: Iterable[TrialSummary]) -> None:
        """Records progress, if this driver leads. Writes those of `trials` that have changed."""
        if self._leads():
            self._open()
            self._progress(standing, trials)

    def _progress(
        self,
        standing: Standing,
        trials: Iterable[TrialSummary],
        found: _Found | None = None,
        *,
        with_metrics: bool = True,
    ) -> None:
        if self._restore(self._home.parent(self._record.name)):
            self._told.clear()
        changed = tuple(trial for trial in trials if self._told.get(trial.number) != trial)
        metrics = {f"trials_{state}": float(count) for state, count in standing.counts.items()}
        if standing.best is not None:
            metrics |= _figures(standing.metric, standing.best)
        direction: Literal["maximize", "minimize"] = self._record.spec.objective.direction
        self._append(
            self._home.parent(self._record.name),
            spool_events.StudyProgressed(
                at_ms=now_ms(),
                metric=standing.metric,
                direction=direction,
                seeds=standing.seeds,
                trials=changed,
                importance=found.importance if found else {},
                claims=standing.claims,
                metrics=metrics if with_metrics else {},
                missed=found.missed if found else None,
                verdict=found.verdict if found else (),
            ),
        )
        self._told |= {trial.number: trial for trial in changed}

    def knows(self, trial: int) -> bool:
        """Whether this journal has written a summary of the trial."""
        return trial in self._told

    def study_closed(self, summary: StudySummary | None) -> None:
        """Records that the last driver left; `summary` is None if it left with an error."""
        self._open()
        if summary is not None:
            self._tell_all(summary)
        self._close(now_ms(), summary)

    def ensure_closed(self, summary: StudySummary, *, ended_ms: int, alone: bool) -> None:
        """Closes the study in this home, unless its spool already says so.

        The driver may have died after the last trial, or left while other drivers had trials. If
        the study has no spool here and trials wait for its run, the spool is written: the home
        that was to open that run may be lost.

        Args:
            summary: the study's present state.
            ended_ms: when its last attempt ended, in Unix milliseconds.
            alone: whether no other home has ever driven the study. Another home has recorded
                the counts over time, and they are not recorded twice.
        """
        folder = self._home.parent(self._record.name)
        told, _ = read_events(folder, 0)
        last = told[-1] if told else None
        if not is_begun(folder):
            if not survey(self._home.current_study(self._record.name)).pending:
                return
            self._open()
        elif isinstance(last, spool_events.StudyClosed) and last.complete == summary.done:
            return
        self._tell_all(summary, with_metrics=alone)
        self._close(ended_ms, summary)

    def retell(self, summary: StudySummary) -> None:
        """Records the whole study again, for a run that lacks some of it, and closes it."""
        if not is_begun(self._home.parent(self._record.name)):
            self._open()
        self._tell_all(summary)
        self._close(now_ms(), summary)

    def _tell_all(self, summary: StudySummary, *, with_metrics: bool = True) -> None:
        """Records all trials, and what follows from them together, which may take seconds."""
        importance = self._trials.store_importance()
        missed = find_missed(self._record, self._trials.all(), self._home.datasets)
        verdict = verdict_of(Study(self._home, self._database, self._record))
        found = _Found(importance, missed, verdict)
        self._progress(summary, summary.trials, found, with_metrics=with_metrics)

    def _close(self, at_ms: int, summary: StudySummary | None) -> None:
        complete, failed = (summary.done, summary.all_failed) if summary else (False, False)
        closed = spool_events.StudyClosed(at_ms=at_ms, complete=complete, failed=failed)
        self._append(self._home.parent(self._record.name), closed)

    def attempt_started(
        self,
        *,
        uid: str,
        number: int,
        plan: TrialPlan,
        trainer: TrainerInfo,
        source: dict[str, str],
        predecessor: str | None,
    ) -> None:
        """Records that a trainer got a plan."""
        self._begin(
            plan.folder,
            spool_events.AttemptStarted(
                at_ms=now_ms(),
                uid=uid,
                number=number,
                name=_title(self._record.spec, number, plan.slot),
                plan=plan,
                dataset=self._record.dataset,
                trainer=trainer,
                tags=self._tags() | _newest(self._versions),
                source=source,
                predecessor=predecessor,
            ),
        )

    def reported(self, plan: TrialPlan, event: EpochEnded | SystemSampled) -> None:
        """Records an epoch, or a measurement of the trainer's machine."""
        self._append(plan.folder, event)

    def attempt_ended(
        self,
        folder: Path,
        outcome: Outcome,
        result: TrialResult | None,
        reason: str = "",
        ended_ms: int | None = None,
    ) -> None:
        """Records the end of an attempt, if its start was recorded and its end was not.

        `ended_ms` is in Unix milliseconds; None means now.
        """
        if folder not in self._openings and not _is_open(folder):
            return
        log = folder / "output.log"
        self._append(
            folder,
            spool_events.AttemptEnded(
                at_ms=ended_ms or now_ms(),
                outcome=outcome,
                reason=reason,
                result=result,
                log=log if log.exists() else None,
            ),
        )
        self._openings.pop(folder, None)
        self._spools.release(folder)

    def attempt_abandoned(self, attempt: Attempt | ClosedAttempt) -> None:
        """Records that the driver of an attempt that is over, in another home, has died."""
        assert attempt.outcome is not None
        folder = self._home.attempt(self._record.name, attempt.slot, attempt.number)
        abandoned = spool_events.AttemptAbandoned(
            at_ms=now_ms(), uid=attempt.uid, outcome=attempt.outcome
        )
        self._once(folder, abandoned)

    def attempt_ended_elsewhere(self, attempt: Attempt) -> None:
        """Ends the copy of another home's spool that was made before the attempt's end."""
        if _is_open(self._home.attempt(self._record.name, attempt.slot, attempt.number)):
            self._tell_from_ledger(attempt)

    def attempt_named(self, attempt: Attempt) -> None:
        """Records the attempt's uid in a spool that has lost its beginning."""
        folder = self._home.attempt(self._record.name, attempt.slot, attempt.number)
        if is_own(folder) and not is_begun(folder):
            self._tell_from_ledger(attempt)

    def _tell_from_ledger(self, attempt: Attempt) -> None:
        if attempt.outcome is None:
            return
        ended_ms = attempt.ended_ms or now_ms()
        told = spool_events.AttemptAbandoned(
            at_ms=ended_ms, uid=attempt.uid, outcome=attempt.outcome, reason=""
        )
        self._once(self._home.attempt(self._record.name, attempt.slot, attempt.number), told)

    def close(self) -> None:
        """Closes every spool."""
        self._spools.close()

    def model_kept(self, folder: Path, path: Path, sha256: str) -> None:
        """Records that an ended attempt's model is among the best."""
        self._once(folder, spool_events.ModelKept(at_ms=now_ms(), path=path, sha256=sha256))

    def model_displaced(self, folder: Path) -> None:
        """Records that an ended attempt's model is no longer among the best."""
        self._once(folder, spool_events.ModelDisplaced(at_ms=now_ms()))

    def keeps_model(self, folder: Path) -> bool:
        """Whether an attempt's model is recorded as kept, and not as displaced since."""
        lines = (line for line in read_lines(folder, 0) if line.kind.startswith("model-"))
        read = (line.event_or_error() for line in lines)
        about_models = [each for each in read if not isinstance(each, ValidationError)]
        return isinstance(about_models[-1] if about_models else None, spool_events.ModelKept)

    def _tags(self) -> dict[str, str]:
        return {
            **self._code.tags(),
            STUDY_UID_TAG: self._record.uid,
            STUDY_TAG: self._record.spec.origin or self._record.name,
            ROLE_TAG: self._record.spec.role,
            "mlflow.source.name": self._record.source,
        }

    def _origin(self) -> dict[str, str]:
        """The tag that names the run of the study that a confirmation or refit belongs to."""
        origin = self._record.spec.origin
        try:
            record = None if origin is None else Catalog(self._database).find(origin)
        except UsageError:  # a damaged row, or one of a newer version, stops no other study
            record = None
        return {} if record is None else {ORIGIN_TAG: record.uid}

    def _begin(
        self, folder: Path, opening: spool_events.StudyOpened | spool_events.AttemptStarted
    ) -> None:
        self._openings[folder] = opening
        self._spools.append(folder, opening)

    def _append(self, folder: Path, event: spool_events.Event) -> None:
        self._restore(folder)
        self._spools.append(folder, event)

    def _restore(self, folder: Path) -> bool:
        """Begins a spool anew if it lost its beginning; returns whether it had.

        The new first event has a new time, which distinguishes the spool from the deleted one.
        The attempt's epochs are recorded again with its end.
        """
        is_lost = self._spools.has_lost(folder)
        if is_lost and folder in self._openings:
            self._begin(folder, self._openings[folder].again_at(now_ms()))
        return is_lost

    def _once(self, folder: Path, event: spool_events.Event) -> None:
        """Writes one event about an attempt that no trainer works on, and closes its spool."""
        self._spools.append(folder, event)
        self._spools.release(folder)


def _figures(metric: str, best: PointSummary) -> dict[str, float]:
    """The best point's mean, the number of its trainings, and their standard deviation if any."""
    figures = {f"best_{metric}": best.mean, f"best_{metric}_n": float(best.completed)}
    if best.std is not None:
        figures[f"best_{metric}_std"] = best.std
    return figures


def _title(spec: StudySpec, number: int, slot: int) -> str:
    """What a trial's run is called. Those of a confirmation and a refit say what they train."""
    if spec.refit_of is not None:
        return f"refit: point {spec.refit_of.point}"
    if spec.race is None:
        return f"trial {number}"
    index, racing = point_of(spec, slot), spec.trials - spec.race.claimed
    point = f"claimed point {index - racing}"
    if index < racing:  # earlier versions did not store its number
        point = f"point {spec.race.points[index]}" if spec.race.points else f"finalist {index}"
    return f"confirmation: {point}, seed {replicate_of(spec, slot)}"


def _told(versions: Sequence[CodeVersion]) -> dict[str, str]:
    """The tag of the parent run: which code trained which trials."""
    each = (f"{version.digest[:12]} from trial {version.from_trial}" for version in versions)
    return {CODE_TAG: ", ".join(each)} if any(version.digest for version in versions) else {}


def _newest(versions: Sequence[CodeVersion]) -> dict[str, str]:
    """The tag of an attempt's run: which code trains it."""
    newest = versions[-1].digest if versions else ""
    return {CODE_TAG: newest[:12]} if newest else {}


def _is_open(folder: Path) -> bool:
    """Whether the spool is of an attempt that began in this home, and has no readable end."""
    ends = (line.event_or_error() for line in read_lines(folder, 0) if line.kind in _ENDS)
    return is_own(folder) and all(isinstance(end, ValidationError) for end in ends)

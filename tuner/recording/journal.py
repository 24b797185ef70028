"""Writes what happens in a study into its spools; shipping them is another process's work."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from tuner.clock import now_ms
from tuner.datasets.store import DatasetInfo
from tuner.home import Home
from tuner.recording.provenance import Provenance
from tuner.search.importance import Importance
from tuner.search.ranking import PointSummary
from tuner.spec.text.writer import to_yaml
from tuner.storage.attempts import Attempt
from tuner.storage.code_versions import CodeVersion
from tuner.storage.studies import StudyRecord
from tuner.study.summary import Standing, StudySummary
from tuner.tracking.spool import spool_events
from tuner.tracking.spool.backlog import Backlog
from tuner.tracking.spool.shipped import survey
from tuner.tracking.spool.spool import is_begun, is_own, read_events, read_lines
from tuner.tracking.spool.spool_events import TrialSummary
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
"""The digest of the user's code."""


class Journal:
    """The spools of one study in one home folder."""

    def __init__(
        self,
        home: Home,
        record: StudyRecord,
        code: Provenance,
        versions: Sequence[CodeVersion] = (),
        *,
        leads: Callable[[], bool] = lambda: True,
        say: Callable[[str], None],
    ) -> None:
        """Spools below `home`, for the process that holds its driver lock.

        `versions` are those of the user's code. `leads` says whether this journal is the one that
        tells of the study as a whole; of several drivers, one does. `say` hears of a disk that
        takes no more.
        """
        home.devote(record.name, record.uid)
        self._leads = leads
        self._home = home
        self._record = record
        self._code = code
        self._versions = versions
        self._spools = Backlog(say)
        self._openings: dict[Path, spool_events.StudyOpened | spool_events.AttemptStarted] = {}
        """What begins the spools that this journal has begun and not ended."""
        self._told: dict[int, TrialSummary] = {}
        """What the parent's spool says of each trial since this journal was opened."""

    def study_opened(self) -> None:
        """A driver opened the study."""
        if self._leads():
            self._open()

    def _open(self) -> None:
        """Once, by the driver that speaks for the study first."""
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
                tags=self._tags() | _told(self._versions),
                uncommitted=self._code.uncommitted,
                code={
                    f"from-trial-{version.from_trial}/{path}": text
                    for version in self._versions
                    for path, text in version.files.items()
                },
            ),
        )

    def study_progressed(
        self, standing: Standing, trials: Iterable[TrialSummary], importance: Importance
    ) -> None:
        """The study got on; of `trials`, those that have changed are written."""
        if self._leads():
            self._open()
            self._progress(standing, trials, importance)

    def _progress(
        self,
        standing: Standing,
        trials: Iterable[TrialSummary],
        importance: Importance,
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
                importance=importance,
                metrics=metrics if with_metrics else {},
            ),
        )
        self._told |= {trial.number: trial for trial in changed}

    def knows(self, trial: int) -> bool:
        """Whether the parent's spool tells of the trial since this journal was opened."""
        return trial in self._told

    def study_closed(self, summary: StudySummary | None) -> None:
        """The last driver leaves, without a summary where an error drives it out."""
        self._open()
        if summary is not None:
            self._progress(summary, summary.trials, {})
        self._close(now_ms(), summary)

    def ensure_closed(self, summary: StudySummary, *, ended_ms: int, alone: bool) -> None:
        """Closes the study here as it stands, where this home's spool says nothing or otherwise.

        Its driver may have died after the last trial, or left when others had trials still. Where
        the spool is not there and trials wait for the study's run, it is written: the home that
        was to open that run may be lost.

        Args:
            summary: where it stands.
            ended_ms: when its last attempt ended, in Unix time.
            alone: whether no other home has ever driven it; else another one has told MLflow
                how many trials ended when, and it is not told again.
        """
        folder = self._home.parent(self._record.name)
        told, _ = read_events(folder, 0)
        last = told[-1] if told else None
        if not is_begun(folder):
            if not survey(self._home.devoted(self._record.name)).pending:
                return
            self._open()
        elif isinstance(last, spool_events.StudyClosed) and last.complete == summary.done:
            return
        self._progress(summary, summary.trials, {}, with_metrics=alone)
        self._close(ended_ms, summary)

    def retell(self, summary: StudySummary) -> None:
        """Tells of the whole study once more, for a run that lacks some of it, and closes it."""
        if not is_begun(self._home.parent(self._record.name)):
            self._open()
        self._progress(summary, summary.trials, {})
        self._close(now_ms(), summary)

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
        """A trainer got a plan."""
        self._begin(
            plan.folder,
            spool_events.AttemptStarted(
                at_ms=now_ms(),
                uid=uid,
                number=number,
                plan=plan,
                dataset=self._dataset,
                trainer=trainer,
                tags=self._tags() | _newest(self._versions),
                source=source,
                predecessor=predecessor,
            ),
        )

    def reported(self, plan: TrialPlan, event: EpochEnded | SystemSampled) -> None:
        """A trainer reported an epoch, or a measurement of its machine."""
        self._append(plan.folder, event)

    def attempt_ended(
        self,
        folder: Path,
        outcome: Outcome,
        result: TrialResult | None,
        reason: str = "",
        ended_ms: int | None = None,
    ) -> None:
        """An attempt is over, now if not before. One that never wrote a start has no run to end."""
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

    def attempt_abandoned(self, slot: int, number: int, uid: str, outcome: Outcome) -> None:
        """A driver of another home died over an attempt."""
        folder = self._home.attempt(self._record.name, slot, number)
        self._once(folder, spool_events.AttemptAbandoned(at_ms=now_ms(), uid=uid, outcome=outcome))

    def attempt_ended_elsewhere(self, attempt: Attempt) -> None:
        """Ends a copy of another home's spool, if that was copied before its end."""
        if _is_open(self._home.attempt(self._record.name, attempt.slot, attempt.number)):
            self._tell_from_ledger(attempt)

    def attempt_named(self, attempt: Attempt) -> None:
        """Tells a spool that has lost its beginning which attempt it is of."""
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
        """The model of an attempt that has ended is among the best."""
        self._once(folder, spool_events.ModelKept(at_ms=now_ms(), path=path, sha256=sha256))

    def model_displaced(self, folder: Path) -> None:
        """The model of an attempt that has ended is among the best no longer."""
        self._once(folder, spool_events.ModelDisplaced(at_ms=now_ms()))

    def keeps_model(self, folder: Path) -> bool:
        """Whether an attempt's model was kept and has not been displaced since."""
        lines = (line for line in read_lines(folder, 0) if line.kind.startswith("model-"))
        read = (line.event_or_error() for line in lines)
        about_models = [each for each in read if not isinstance(each, ValidationError)]
        return isinstance(about_models[-1] if about_models else None, spool_events.ModelKept)

    def _tags(self) -> dict[str, str]:
        return {
            **self._code.tags(),
            "tuner.study_uid": self._record.uid,
            "mlflow.source.name": self._record.source,
        }

    @property
    def _dataset(self) -> DatasetInfo:
        return self._record.dataset

    def _begin(
        self, folder: Path, opening: spool_events.StudyOpened | spool_events.AttemptStarted
    ) -> None:
        self._openings[folder] = opening
        self._spools.append(folder, opening)

    def _append(self, folder: Path, event: spool_events.Event) -> None:
        self._restore(folder)
        self._spools.append(folder, event)

    def _restore(self, folder: Path) -> bool:
        """Begins a spool anew that lost its beginning; an attempt's end tells its epochs again.

        What begins it has a time of its own, which tells a new spool from the deleted one.
        """
        is_lost = self._spools.has_lost(folder)
        if is_lost and folder in self._openings:
            self._begin(folder, self._openings[folder].again_at(now_ms()))
        return is_lost

    def _once(self, folder: Path, event: spool_events.Event) -> None:
        """Writes one event about an attempt that nobody is at work on."""
        self._spools.append(folder, event)
        self._spools.release(folder)


def _figures(metric: str, best: PointSummary) -> dict[str, float]:
    """The best point's mean, and over several seeds their spread and number."""
    figures = {f"best_{metric}": best.mean}
    if best.std is not None:
        figures |= {f"best_{metric}_std": best.std, f"best_{metric}_n": float(best.completed)}
    return figures


def _told(versions: Sequence[CodeVersion]) -> dict[str, str]:
    """Which code trained which trials, for the parent's run."""
    each = (f"{version.digest[:12]} from trial {version.from_trial}" for version in versions)
    return {CODE_TAG: ", ".join(each)} if any(version.digest for version in versions) else {}


def _newest(versions: Sequence[CodeVersion]) -> dict[str, str]:
    """Which code trains an attempt."""
    newest = versions[-1].digest if versions else ""
    return {CODE_TAG: newest[:12]} if newest else {}


def _is_open(folder: Path) -> bool:
    """Whether the spool tells of an attempt that was begun here, and of no end that can be read."""
    ends = (line.event_or_error() for line in read_lines(folder, 0) if line.kind in _ENDS)
    return is_own(folder) and all(isinstance(end, ValidationError) for end in ends)

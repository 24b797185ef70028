"""Compares what Optuna, the ledger, the spools and MLflow say of a study, and heals it.

Every attempt that has begun is one run, with one point an epoch, and none is open without a
driver. What differs is named with its reason; healing takes steps that may be taken twice.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from optuna.trial import FrozenTrial
from pydantic import ValidationError

from tuner.home import Home
from tuner.study.catalog import StudyRecord
from tuner.study.clearing import clear_home
from tuner.study.code_versions import CodeVersions
from tuner.study.database import Database
from tuner.study.journal import Journal
from tuner.study.ledger import Attempt, Ledger
from tuner.study.lock import is_driven_here, only_driver
from tuner.study.members import Members, Watch
from tuner.study.provenance import Provenance
from tuner.study.shipment import shipping
from tuner.study.summary import StudySummary, summarise
from tuner.study.trials import Trials
from tuner.tracking.attempt_ending import CONFUSION_ARTIFACT, CURVES_ARTIFACT
from tuner.tracking.attempt_run import MODEL_ARTIFACT, TRIAL_ARTIFACT
from tuner.tracking.events import AttemptEnded, Event
from tuner.tracking.inspection import SeenRun, SeenStudy, look_at
from tuner.tracking.progress import FILE_NAME as PROGRESS
from tuner.tracking.progress import forget_progress, load_progress
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.spool import is_begun, is_own, read_events, read_lines
from tuner.tracking.study_run import TABLES
from tuner.training.plan import MODEL
from tuner.words import count

_SHIPPING_S = 300.0
_FORMER_TRIAL_ARTIFACT = "plan.json"
"""What runs of earlier versions have in its place."""


class Kind(Enum):
    """What can be wrong."""

    OPEN = auto()
    UNSHIPPED = auto()
    MISSING = auto()
    INCOMPLETE = auto()
    RUNNING = auto()
    UNNAMED = auto()
    ELSEWHERE = auto()
    STRANGE = auto()
    REFUSED = auto()
    DAMAGED = auto()


_REMEDIES = {
    Kind.OPEN: "is closed, so that another attempt follows",
    Kind.UNSHIPPED: "is shipped",
    Kind.MISSING: "is shipped again from its spool",
    Kind.INCOMPLETE: "is shipped again from its spool, which adds what is missing",
    Kind.RUNNING: "is closed",
    Kind.UNNAMED: "is noted",
    Kind.REFUSED: "is tried again",
}


@dataclass(frozen=True)
class Finding:
    """One difference."""

    kind: Kind
    about: str
    text: str
    attempt: Attempt | None = None
    run_id: str = ""
    """The run that the database does not know."""

    @property
    def remedy(self) -> str:
        """What healing does about it, empty where nothing can be done from here."""
        return _REMEDIES.get(self.kind, "")


class Doctor:
    """Looks at one study."""

    def __init__(
        self, home: Home, database: Database, record: StudyRecord, tracking: TrackingSettings
    ) -> None:
        self._home = home
        self._database = database
        self._record = record
        self._tracking = tracking
        self._ledger = Ledger(database, record.name)

    def findings(self) -> list[Finding]:
        """Every difference, by trial.

        Raises:
            UsageError: something else than tuner changed the study's code in the database.
            UnavailableError: the database or MLflow does not answer.
        """
        CodeVersions(self._database, self._record.name).all()
        rows = Trials(self._database, self._record.spec).by_slot()
        attempts = self._ledger.attempts()
        living, hosts = self._living(), Members(self._database, self._record.name).hosts()
        # MLflow comes last: what ends meanwhile is in progress here.
        seen = look_at(self._tracking, self._record.uid, self._record.spec.objective.metric)
        found = [
            finding
            for attempt in attempts
            for finding in self._about(
                attempt, rows.get(attempt.slot), living, hosts[attempt.driver], seen
            )
        ]
        tried, known = {each.slot for each in attempts}, {each.uid for each in attempts}
        found += [
            Finding(Kind.STRANGE, f"trial {row.number}", "no attempt made its row in Optuna")
            for slot, row in rows.items()
            if slot not in tried
        ]
        found += [
            Finding(Kind.STRANGE, f"run {run.run_id}", "the database knows no such attempt")
            for uid, runs in seen.attempts.items()
            if uid not in known
            for run in runs
        ]
        return [*found, *self._about_parent(seen, living)]

    def _summary(self) -> StudySummary:
        return summarise(self._record.spec, Trials(self._database, self._record.spec), self._ledger)

    def heal(self, say: Callable[[str], None]) -> None:
        """Does what can be done from here; beside a driver of this home that is the driver's.

        Raises:
            RefusedError: a driver of this home is at work.
            UsageError: as `findings`.
        """
        with only_driver(self._home, self._record.name):
            clear_home(self._home, self._database, self._record, say, patient=True)
            found = self._heal_once(say)
            if any(finding.kind is Kind.UNSHIPPED for finding in found):
                self._heal_once(say)  # what its run lacks beside that shows once it is shipped

    def _heal_once(self, say: Callable[[str], None]) -> list[Finding]:
        nowhere = Provenance("", "", dirty=False)
        with closing(Journal(self._home, self._record, nowhere, say=say)) as journal:
            found = self.findings()
            for finding in found:
                self._prepare(finding, journal)
        folder = self._home.devoted(self._record.name)
        with shipping(folder, self._tracking, self._ledger, lambda: _SHIPPING_S, say):
            pass
        return found

    def _prepare(self, finding: Finding, journal: Journal) -> None:
        """Makes the next shipping do what is missing."""
        attempt = finding.attempt
        again = (Kind.MISSING, Kind.INCOMPLETE, Kind.REFUSED)
        if finding.kind in (*again, Kind.RUNNING) and attempt is not None:
            if finding.kind is not Kind.RUNNING or self._has_spool(attempt):
                journal.attempt_named(attempt)
                forget_progress(self._home.attempt(self._record.name, attempt.slot, attempt.number))
            elif attempt.outcome is not None:
                journal.attempt_abandoned(
                    attempt.slot, attempt.number, attempt.uid, attempt.outcome
                )
        elif finding.kind is Kind.UNNAMED and attempt is not None:
            self._ledger.name_run(attempt.uid, finding.run_id)
        elif finding.kind in (*again, Kind.RUNNING):
            forget_progress(self._home.parent(self._record.name))
            if not self._living():
                journal.retell(self._summary())

    def _about(
        self,
        attempt: Attempt,
        row: FrozenTrial | None,
        living: set[str],
        host: str,
        seen: SeenStudy,
    ) -> Iterator[Finding]:
        name = f"trial {attempt.slot if row is None else row.number}, attempt {attempt.number}"

        def found(kind: Kind, text: str, run_id: str = "") -> Finding:
            return Finding(kind, name, text, attempt, run_id)

        if attempt.outcome is None:
            if attempt.driver not in living:
                yield found(Kind.OPEN, "is open, and its driver is gone")
            return
        runs = seen.attempts.get(attempt.uid, ())
        folder = self._home.attempt(self._record.name, attempt.slot, attempt.number)
        yield from (found(Kind.DAMAGED, text) for text in _harm(folder))
        if waiting := self._waiting(attempt):
            yield found(
                Kind.UNSHIPPED,
                f"{count(waiting, 'of its events is', 'of its events are')} not in MLflow yet",
            )
        elif not runs:
            if is_begun(folder):
                yield found(Kind.MISSING, "MLflow has lost its run")
            elif self._has_spool(attempt):
                yield found(Kind.DAMAGED, "has no run, and what began it here cannot be read")
            elif attempt.final and attempt.driver not in living:
                yield found(
                    Kind.ELSEWHERE,
                    f"has no run, and no spool here; tuner sync in its home on {host} ships it, "
                    f"and if that home is lost, tuner show {self._record.name} has its figures",
                )
        else:
            here = self._has_spool(attempt)
            refused = _refused(folder)
            yield from _about_run(
                attempt, row, runs, found, here=here, living=living, refused=refused
            )
            if here:
                yield from _about_files(folder, runs[0], found, refused)

    def _about_parent(self, seen: SeenStudy, living: set[str]) -> Iterator[Finding]:
        folder = self._home.parent(self._record.name)
        yield from (Finding(Kind.DAMAGED, "the study", text) for text in _harm(folder))
        mine = any(read_lines(folder, 0))
        if not seen.parents and not self._pending(folder) and (mine or seen.attempts):
            yield Finding(Kind.MISSING, "the study", "MLflow has lost its parent run")
        if len(seen.parents) > 1:
            yield Finding(Kind.STRANGE, "the study", f"has {len(seen.parents)} parent runs")
        if any(run.status == "RUNNING" for run in seen.parents) and not living and mine:
            yield Finding(Kind.RUNNING, "the study", "its run is open, and no driver is at work")
        if seen.parents and not living and not self._pending(folder):
            yield from self._about_content(seen.parents[0])

    def _about_content(self, run: SeenRun) -> Iterator[Finding]:
        """Counts and tables of a study that nobody works on, held against the database."""
        refused = _refused(self._home.parent(self._record.name))
        if refused:
            yield Finding(Kind.REFUSED, "the study", _refusals(refused))
        counts = self._summary().counts
        for state in ("completed", "pruned", "failed"):
            shown = run.metrics.get(f"trials_{state}", 0)
            if shown != counts[state]:
                text = f"its run counts {shown:g} {state} trials of {counts[state]}"
                yield Finding(Kind.INCOMPLETE, "the study", text)
                return
        ended = any(counts[state] for state in ("completed", "pruned", "failed"))
        expected = {"study.yaml", *(TABLES if ended else ())}
        refusals = " ".join(refused)
        lacking = {each for each in expected - run.artifacts.keys() if repr(each) not in refusals}
        if missing := sorted(lacking):
            text = f"its run lacks the files {', '.join(missing)}"
            yield Finding(Kind.INCOMPLETE, "the study", text)

    def _living(self) -> set[str]:
        driven = is_driven_here(self._home, self._record.name)
        members = Members(self._database, self._record.name)
        watch = Watch(members, home="" if driven else self._home.uid)
        return {member.uid for member in watch.living()}

    def _has_spool(self, attempt: Attempt) -> bool:
        folder = self._home.attempt(self._record.name, attempt.slot, attempt.number)
        return is_own(folder)

    def _waiting(self, attempt: Attempt) -> int:
        return self._pending(self._home.attempt(self._record.name, attempt.slot, attempt.number))

    def _pending(self, folder: Path) -> int:
        progress = load_progress(folder)
        return sum(1 for _ in read_lines(folder, progress.offset if progress else 0))


def _about_run(
    attempt: Attempt,
    row: FrozenTrial | None,
    runs: tuple[SeenRun, ...],
    found: Callable[..., Finding],
    *,
    here: bool,
    living: set[str],
    refused: Sequence[str],
) -> Iterator[Finding]:
    """What another machine's driver, alive, has still to ship is no difference yet."""
    run = runs[0]
    again = Kind.INCOMPLETE if here else Kind.ELSEWHERE
    if not here and attempt.driver in living:
        return
    if len(runs) > 1:
        yield found(again, f"has {len(runs)} runs in MLflow")
    if attempt.run_id is None:
        yield found(Kind.UNNAMED, "the database does not know its run", run.run_id)
    if run.status == "RUNNING":
        yield found(Kind.RUNNING, "is over, and its run is open")
    elif run.state != attempt.outcome:
        yield found(again, f"its run says {run.state or 'nothing'!r}, and it is {attempt.outcome}")
    if refused:
        yield found(Kind.REFUSED, _refusals(refused))
    elif run.refused and not here:
        parts = f"its run lacks {count(run.refused, 'part')} of what was recorded"
        yield found(Kind.ELSEWHERE, f"{parts}; the shipper's log on its driver's machine says why")
    whole = row is not None and attempt.outcome in ("completed", "pruned")
    expected = set(row.intermediate_values) if row and whole else set[int]()
    if missing := sorted(expected - run.epochs):
        yield found(again, f"its run lacks the epochs {', '.join(map(str, missing))}")


def _about_files(
    folder: Path, run: SeenRun, found: Callable[..., Finding], refused: Sequence[str]
) -> Iterator[Finding]:
    """What every attempt's run holds, and the model if it is among the best."""
    events, _ = read_events(folder)
    kinds = [event.kind for event in events]
    about_models = [kind for kind in kinds if kind.startswith("model-")]
    expected = {TRIAL_ARTIFACT} if "attempt-started" in kinds else set()
    if "epoch-ended" in kinds and "attempt-ended" in kinds:
        expected.add(CURVES_ARTIFACT)
    if any(map(_is_evaluated, events)):
        expected.add(CONFUSION_ARTIFACT)
    if about_models[-1:] == ["model-kept"]:
        expected.add(MODEL_ARTIFACT)
    lacking = expected - run.artifacts.keys()
    if _FORMER_TRIAL_ARTIFACT in run.artifacts:
        lacking.discard(TRIAL_ARTIFACT)
    missing = {each for each in lacking if not any(repr(each) in note for note in refused)}
    if MODEL_ARTIFACT in missing and not (folder / MODEL).exists():
        yield found(Kind.STRANGE, "its model is neither in MLflow nor here")
        missing.remove(MODEL_ARTIFACT)
    if missing:
        yield found(Kind.INCOMPLETE, f"its run lacks the files {', '.join(sorted(missing))}")
    if MODEL_ARTIFACT in expected - lacking and (folder / MODEL).exists():
        there, here = run.artifacts[MODEL_ARTIFACT], (folder / MODEL).stat().st_size
        if there != here:
            text = f"its model has {there:,} bytes in MLflow and {here:,} here"
            yield found(Kind.INCOMPLETE, text)


def _is_evaluated(event: Event) -> bool:
    return isinstance(event, AttemptEnded) and bool(event.result and event.result.evaluation)


def _harm(folder: Path) -> Iterator[str]:
    """What happened to a spool on its disk."""
    lines = list(read_lines(folder, 0))
    if all(line.kind.startswith("model-") for line in lines) and (folder / PROGRESS).exists():
        yield "its spool was deleted, so what MLflow may lack or lose of it cannot be shipped again"
    damaged = sum(isinstance(line.event_or_error(), ValidationError) for line in lines)
    if damaged:
        what = f"{count(damaged, 'line')} of {folder}/spool.jsonl"
        yield f"{what} cannot be read, and what stood there is left out"


def _refused(folder: Path) -> tuple[str, ...]:
    """What MLflow turned down of a spool here."""
    progress = load_progress(folder)
    return () if progress is None else progress.turned_down


def _refusals(refused: Sequence[str]) -> str:
    return f"MLflow turned {count(len(refused), 'part')} of it down: {refused[-1]}"

"""Compares what Optuna, the ledger, the spools and MLflow say of a study, and heals it.

Every attempt that has begun is one run, with one point an epoch, and none is open without a
driver. What differs is named with its reason; healing takes steps that may be taken twice.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from optuna.trial import FrozenTrial

from tuner.home import Home
from tuner.study.catalog import StudyRecord
from tuner.study.clearing import clear_home
from tuner.study.database import Database
from tuner.study.journal import Journal
from tuner.study.ledger import Attempt, Ledger
from tuner.study.lock import is_driven_here, only_driver
from tuner.study.members import Members
from tuner.study.provenance import Provenance
from tuner.study.recovery import dead_here
from tuner.study.shipment import shipping
from tuner.study.trials import Trials
from tuner.tracking.inspection import SeenRun, SeenStudy, look_at
from tuner.tracking.progress import forget_progress, load_progress
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.spool import read_lines
from tuner.words import count

_SHIPPING_S = 300.0


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


_REMEDIES = {
    Kind.OPEN: "is closed, so that another attempt follows",
    Kind.UNSHIPPED: "is shipped",
    Kind.MISSING: "is shipped again from its spool",
    Kind.INCOMPLETE: "is shipped again from its spool, which adds what is missing",
    Kind.RUNNING: "is closed",
    Kind.UNNAMED: "is noted",
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
            UnavailableError: the database or MLflow does not answer.
        """
        rows = Trials(self._database, self._record.spec).by_slot()
        attempts = self._ledger.attempts()
        living = self._living()
        # MLflow comes last: what ends meanwhile is in progress here.
        seen = look_at(self._tracking, self._record.uid, self._record.spec.objective.metric)
        found = [
            finding
            for attempt in attempts
            for finding in self._about(attempt, rows.get(attempt.slot), living, seen)
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

    def heal(self, say: Callable[[str], None]) -> None:
        """Does what can be done from here; beside a driver of this home that is the driver's.

        Raises:
            RefusedError: a driver of this home is at work.
        """
        with only_driver(self._home, self._record.name):
            clear_home(self._home, self._database, self._record, say, patient=True)
            nowhere = Provenance("", "", ())
            with closing(Journal(self._home, self._record, nowhere, say=say)) as journal:
                for finding in self.findings():
                    self._prepare(finding, journal)
            folder = self._home.devoted(self._record.name)
            with shipping(folder, self._tracking, self._ledger, lambda: _SHIPPING_S, say):
                pass

    def _prepare(self, finding: Finding, journal: Journal) -> None:
        """Makes the next shipping do what is missing."""
        attempt = finding.attempt
        if finding.kind in (Kind.MISSING, Kind.INCOMPLETE) and attempt is not None:
            forget_progress(self._home.attempt(self._record.name, attempt.slot, attempt.number))
        elif finding.kind is Kind.RUNNING and attempt is not None and attempt.outcome is not None:
            if self._has_spool(attempt):
                folder = self._home.attempt(self._record.name, attempt.slot, attempt.number)
                forget_progress(folder)
            else:
                journal.attempt_abandoned(
                    attempt.slot, attempt.number, attempt.uid, attempt.outcome
                )
        elif finding.kind is Kind.UNNAMED and attempt is not None:
            self._ledger.name_run(attempt.uid, finding.run_id)
        elif finding.kind in (Kind.MISSING, Kind.RUNNING):
            forget_progress(self._home.parent(self._record.name))

    def _about(
        self, attempt: Attempt, row: FrozenTrial | None, living: set[str], seen: SeenStudy
    ) -> Iterator[Finding]:
        name = f"trial {attempt.slot if row is None else row.number}, attempt {attempt.number}"

        def found(kind: Kind, text: str, run_id: str = "") -> Finding:
            return Finding(kind, name, text, attempt, run_id)

        if attempt.outcome is None:
            if attempt.driver not in living:
                yield found(Kind.OPEN, "is open, and its driver is gone")
            return
        runs = seen.attempts.get(attempt.uid, ())
        if waiting := self._waiting(attempt):
            yield found(
                Kind.UNSHIPPED,
                f"{count(waiting, 'of its events is', 'of its events are')} not in MLflow yet",
            )
        elif not runs:
            if self._has_spool(attempt):
                yield found(Kind.MISSING, "MLflow has lost its run")
            elif attempt.final:
                yield found(Kind.ELSEWHERE, "has no run yet; its spool is on its driver's machine")
        else:
            here = self._has_spool(attempt)
            yield from _about_run(attempt, row, runs, found, here=here, living=living)

    def _about_parent(self, seen: SeenStudy, living: set[str]) -> Iterator[Finding]:
        folder = self._home.parent(self._record.name)
        mine = any(read_lines(folder, 0))
        if mine and not seen.parents and not self._pending(folder):
            yield Finding(Kind.MISSING, "the study", "MLflow has lost its parent run")
        if len(seen.parents) > 1:
            yield Finding(Kind.STRANGE, "the study", f"has {len(seen.parents)} parent runs")
        if any(run.status == "RUNNING" for run in seen.parents) and not living and mine:
            yield Finding(Kind.RUNNING, "the study", "its run is open, and no driver is at work")

    def _living(self) -> set[str]:
        members = Members(self._database, self._record.name).present()
        dead: list[str] = []
        if not is_driven_here(self._home, self._record.name):
            dead = [member.uid for member in dead_here(members, self._home.uid)]
        return {member.uid for member in members if member.uid not in dead}

    def _has_spool(self, attempt: Attempt) -> bool:
        folder = self._home.attempt(self._record.name, attempt.slot, attempt.number)
        return any(line.kind == "attempt-started" for line in read_lines(folder, 0))

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
) -> Iterator[Finding]:
    """What another machine's driver, alive, has still to ship is no difference yet."""
    run = runs[0]
    if not here and attempt.driver in living:
        return
    if len(runs) > 1:
        kind = Kind.INCOMPLETE if here else Kind.ELSEWHERE
        yield found(kind, f"has {len(runs)} runs in MLflow")
    if attempt.run_id is None:
        yield found(Kind.UNNAMED, "the database does not know its run", run.run_id)
    if run.status == "RUNNING":
        yield found(Kind.RUNNING, "is over, and its run is open")
    if run.refused:
        text = f"MLflow turned {run.refused} of its events down; the shipper's log says why"
        yield found(Kind.REFUSED, text)
    completed = row is not None and attempt.outcome == "completed"
    expected = set(row.intermediate_values) if row and completed else set[int]()
    if missing := sorted(expected - run.epochs):
        kind = Kind.INCOMPLETE if here else Kind.ELSEWHERE
        yield found(kind, f"its run lacks the epochs {', '.join(map(str, missing))}")

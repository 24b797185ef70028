"""Compares Optuna's rows, the ledger, the spools and the MLflow runs of studies.

In a sound study every attempt that has begun is one run, with one value of each metric for each
epoch, and no attempt is open without a driver. Each difference becomes a finding with a reason.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from tuner.home import Home
from tuner.search.outlines import Outline, outlines
from tuner.search.race_trials import claiming
from tuner.storage.attempts import OPTUNA_STATES, Attempt, attempts_by_study
from tuner.storage.database import Database
from tuner.storage.drivers import Drivers, hosts_by_driver, registered_by_study
from tuner.storage.studies import StudyRecord
from tuner.study.overview import tally_of
from tuner.tracking.inspection import SeenRun, SeenSpool, SeenStudy, look_at, look_into
from tuner.tracking.runs.attempt_ending import CONFUSION_ARTIFACT, CURVES_ARTIFACT
from tuner.tracking.runs.attempt_run import MODEL_ARTIFACT, TRIAL_ARTIFACT
from tuner.tracking.runs.study_run import TABLES
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.spool.spool import attempt_folder, parent_folder
from tuner.training.plan import MODEL, Outcome
from tuner.words import command, count

_FORMER_TRIAL_ARTIFACT = "plan.json"
"""The name of that file in runs of earlier versions."""


class Kind(Enum):
    """The kinds of findings."""

    OPEN = auto()
    """An attempt is open, and its driver is dead."""
    UNSHIPPED = auto()
    """Events wait in a spool."""
    MISSING = auto()
    """MLflow has no run."""
    INCOMPLETE = auto()
    """A run lacks epochs or files."""
    RUNNING = auto()
    """A run is open, and what it shows has ended."""
    UNNAMED = auto()
    """The database does not have the run's id."""
    ELSEWHERE = auto()
    """Only another home can repair it."""
    STRANGE = auto()
    """Something exists that tuner did not make, or that it cannot make again."""
    REFUSED = auto()
    """MLflow refused a part."""
    DAMAGED = auto()
    """A spool was deleted, or lines of it cannot be read."""


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
        """What the repair does; empty if it is not possible from this home."""
        return _REMEDIES.get(self.kind, "")


def examine(
    home: Home, database: Database, records: Sequence[StudyRecord], tracking: TrackingSettings
) -> dict[str, list[Finding]]:
    """Every difference, by the study's name, sorted by trial.

    Raises:
        UnavailableError: the database or MLflow does not answer.
    """
    names = [record.name for record in records]
    registry = Drivers(database, *names)
    known = {driver.uid for driver in registry.registered()}
    living = registry.alive()
    rows, tried, present, hosts = database.transact(
        lambda one: (
            outlines(one, names, claiming(record.spec for record in records)),
            attempts_by_study(one, names),
            registered_by_study(one),
            hosts_by_driver(one, names),
        )
    )

    def charted(record: StudyRecord) -> _Chart:
        name = record.name
        fresh = {each.uid for each in present.get(name, ())} - known
        alive = {each.uid for each in living if each.study == name} | fresh
        return _Chart(home, record, rows.get(name, []), tried.get(name, []), alive, hosts)

    charts = {record.uid: charted(record) for record in records}
    # MLflow is read last: whatever ends or is shipped meanwhile counts as in progress above.
    metrics = {record.uid: record.spec.objective.metric for record in records}
    seen = look_at(tracking, metrics)
    return {chart.study: list(chart.findings(seen[uid])) for uid, chart in charts.items()}


class _Chart:
    """One study as the database and this home have it."""

    def __init__(
        self,
        home: Home,
        record: StudyRecord,
        rows: Sequence[Outline],
        tried: Sequence[Attempt],
        living: set[str],
        hosts: Mapping[str, str],
    ) -> None:
        self.study = record.name
        self._rows = {row.slot: row for row in rows}
        self._tried = tried
        self._living = living
        self._hosts = hosts
        self._counts = tally_of(record.spec, rows, tried).counts
        folder = home.current_study(record.name)
        self._parent = look_into(parent_folder(folder))
        self._spools = {
            each.uid: look_into(attempt_folder(folder, each.slot, each.number))
            for each in tried
            if each.outcome is not None
        }

    def findings(self, seen: SeenStudy) -> Iterator[Finding]:
        """The differences between MLflow, the database and this home."""
        for attempt in self._tried:
            yield from self._about(attempt, seen)
        tried, known = ({each.slot for each in self._tried}, {each.uid for each in self._tried})
        for slot, row in self._rows.items():
            if slot not in tried:
                text = "no attempt made its row in Optuna"
                yield Finding(Kind.STRANGE, f"trial {row.number}", text)
        for uid, runs in seen.attempts.items():
            if uid not in known:
                text = "the database has no such attempt"
                yield from (Finding(Kind.STRANGE, f"run {run.run_id}", text) for run in runs)
        yield from self._about_parent(seen)

    def _about(self, attempt: Attempt, seen: SeenStudy) -> Iterator[Finding]:
        row = self._rows.get(attempt.slot)
        name = f"trial {attempt.slot if row is None else row.number}, attempt {attempt.number}"

        def found(kind: Kind, text: str, run_id: str = "") -> Finding:
            return Finding(kind, name, text, attempt, run_id)

        if attempt.outcome is None:
            if attempt.driver not in self._living:
                yield found(Kind.OPEN, "is open, and its driver is gone")
            return
        runs = seen.attempts.get(attempt.uid, ())
        spool = self._spools[attempt.uid]
        yield from (found(Kind.DAMAGED, text) for text in _harm(spool))
        if spool.pending:
            events = count(spool.pending, "of its events is", "of its events are")
            yield found(Kind.UNSHIPPED, f"{events} not in MLflow yet")
        elif not runs:
            yield from self._about_no_run(attempt, spool, found)
        else:
            yield from _about_run(attempt, row, runs, found, spool, self._living)
            if spool.is_own:
                yield from _about_files(spool, runs[0], found)

    def _about_no_run(
        self, attempt: Attempt, spool: SeenSpool, found: Callable[..., Finding]
    ) -> Iterator[Finding]:
        """Findings about an attempt without a run. A living driver may still ship it."""
        if spool.is_begun:
            yield found(Kind.MISSING, "MLflow has lost its run")
        elif spool.is_own:
            yield found(Kind.DAMAGED, "has no run, and what began it here cannot be read")
        elif attempt.final and attempt.driver not in self._living:
            host = self._hosts[attempt.driver]
            yield found(
                Kind.ELSEWHERE,
                f"has no run, and no spool here; tuner sync in its home on {host} ships it, "
                f"and if that home is lost, {command('show', self.study)} has its figures",
            )

    def _about_parent(self, seen: SeenStudy) -> Iterator[Finding]:
        spool, mine = self._parent, bool(self._parent.kinds)
        yield from (Finding(Kind.DAMAGED, "the study", text) for text in _harm(spool))
        if not seen.parents and not spool.pending and (mine or seen.attempts):
            yield Finding(Kind.MISSING, "the study", "MLflow has lost its parent run")
        if len(seen.parents) > 1:
            yield Finding(Kind.STRANGE, "the study", f"has {len(seen.parents)} parent runs")
        if any(run.status == "RUNNING" for run in seen.parents) and not self._living and mine:
            yield Finding(Kind.RUNNING, "the study", "its run is open, and no driver is at work")
        if seen.parents and not self._living and not spool.pending:
            yield from self._about_content(seen.parents[0])

    def _about_content(self, run: SeenRun) -> Iterator[Finding]:
        """Compares counts and tables of the study's run with the database."""
        refused, counts = self._parent.refused, self._counts
        if refused:
            yield Finding(Kind.REFUSED, "the study", _refusals(refused))
        for state in OPTUNA_STATES:
            shown = run.counts.get(f"trials_{state}", 0)
            if shown != counts[state]:
                text = f"its run counts {shown:g} {state} trials of {counts[state]}"
                yield Finding(Kind.INCOMPLETE, "the study", text)
                return
        ended = any(counts[state] for state in OPTUNA_STATES)
        expected = {"study.yaml", *(TABLES if ended else ())}
        refusals = " ".join(refused)
        lacking = {each for each in expected - run.artifacts.keys() if repr(each) not in refusals}
        if missing := sorted(lacking):
            text = f"its run lacks the files {', '.join(missing)}"
            yield Finding(Kind.INCOMPLETE, "the study", text)


def _about_run(
    attempt: Attempt,
    row: Outline | None,
    runs: Sequence[SeenRun],
    found: Callable[..., Finding],
    spool: SeenSpool,
    living: set[str],
) -> Iterator[Finding]:
    """Findings about an attempt with a run. A living driver may still ship or store the rest."""
    run, here = runs[0], spool.is_own
    again = Kind.INCOMPLETE if here else Kind.ELSEWHERE
    if not here and attempt.driver in living:
        return
    if len(runs) > 1:
        yield found(again, f"has {len(runs)} runs in MLflow")
    if attempt.run_id is None and attempt.driver not in living:
        yield found(Kind.UNNAMED, "the database does not know its run", run.run_id)
    if run.status == "RUNNING":
        yield found(Kind.RUNNING, "is over, and its run is open")
    elif run.state != attempt.outcome:
        yield found(again, f"its run says {run.state or 'nothing'!r}, and it is {attempt.outcome}")
    if spool.refused:
        yield found(Kind.REFUSED, _refusals(spool.refused))
    elif run.refused and not here:
        parts = f"its run lacks {count(run.refused, 'part')} of what was recorded"
        yield found(Kind.ELSEWHERE, f"{parts}; the shipper's log on its driver's machine says why")
    whole = row is not None and attempt.outcome in (Outcome.COMPLETED, Outcome.PRUNED)
    expected = row.epochs if row and whole else frozenset[int]()
    if missing := sorted(expected - run.epochs):
        yield found(again, f"its run lacks the epochs {', '.join(map(str, missing))}")


def _about_files(
    spool: SeenSpool, run: SeenRun, found: Callable[..., Finding]
) -> Iterator[Finding]:
    """Findings about the files of an attempt's run."""
    expected, model = _expected_files(spool), spool.folder / MODEL
    lacking = expected - run.artifacts.keys()
    if _FORMER_TRIAL_ARTIFACT in run.artifacts:
        lacking.discard(TRIAL_ARTIFACT)
    missing = {each for each in lacking if not any(repr(each) in note for note in spool.refused)}
    if MODEL_ARTIFACT in missing and not model.exists():
        yield found(Kind.STRANGE, "its model is neither in MLflow nor here")
        missing.remove(MODEL_ARTIFACT)
    if missing:
        yield found(Kind.INCOMPLETE, f"its run lacks the files {', '.join(sorted(missing))}")
    if MODEL_ARTIFACT in expected - lacking and model.exists():
        there, here = run.artifacts[MODEL_ARTIFACT], model.stat().st_size
        if there != here:
            text = f"its model has {there:,} bytes in MLflow and {here:,} here"
            yield found(Kind.INCOMPLETE, text)


def _expected_files(spool: SeenSpool) -> set[str]:
    """The files that a run must have, by the events in its spool."""
    about_models = [kind for kind in spool.told if kind.startswith("model-")]
    expected = {TRIAL_ARTIFACT} if "attempt-started" in spool.told else set()
    if "epoch-ended" in spool.told and "attempt-ended" in spool.told:
        expected.add(CURVES_ARTIFACT)
    if spool.is_evaluated:
        expected.add(CONFUSION_ARTIFACT)
    if about_models[-1:] == ["model-kept"]:
        expected.add(MODEL_ARTIFACT)
    return expected


def _harm(spool: SeenSpool) -> Iterator[str]:
    """Texts about a spool that was deleted or damaged."""
    if spool.is_gone:
        yield "its spool was deleted, so what MLflow may lack or lose of it cannot be shipped again"
    if spool.damaged:
        what = f"{count(spool.damaged, 'line')} of {spool.folder}/spool.jsonl"
        yield f"{what} cannot be read, and their content is left out"


def _refusals(refused: Sequence[str]) -> str:
    return f"MLflow refused {count(len(refused), 'part')} of it: {refused[-1]}"

"""Repairs the differences that an examination finds in a study. Every step may be repeated."""

from collections.abc import Callable
from contextlib import closing

from tuner.errors import UsageError
from tuner.home import Home
from tuner.recording.journal import Journal
from tuner.recording.provenance import UNKNOWN
from tuner.recording.shipping import shipping
from tuner.recovery.examination import Finding, Kind, examine
from tuner.recovery.takeover import recover_study
from tuner.search.trials import Trials
from tuner.storage.attempts import Attempt, Ledger
from tuner.storage.code_versions import CodeVersions
from tuner.storage.database import Database
from tuner.storage.drivers import Drivers
from tuner.storage.studies import Catalog, StudyRecord
from tuner.study.driver_lock import only_driver
from tuner.study.submissions import Submissions
from tuner.study.summary import summarise
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.spool.shipped import forget_progress
from tuner.tracking.spool.spool import is_own

_SHIPPING_S = 300.0


def studies_to_examine(
    database: Database, study: str | None = None
) -> tuple[list[StudyRecord], dict[str, UsageError]]:
    """The studies that can be examined.

    Args:
        database: the database.
        study: the name of one study; None for all.

    Returns:
        The studies, the newest last, and by name the errors of studies and submissions that
        cannot be read.

    Raises:
        UsageError: there is no such study, or something else than tuner has changed it.
    """
    if study is not None:
        CodeVersions(database, study).all()
        return [Catalog(database).get(study)], {}
    records, unreadable = Catalog(database).readable()
    for record in records:
        try:
            CodeVersions(database, record.name).all()
        except UsageError as error:
            unreadable[record.name] = error
    for submission in Submissions(database).all():
        try:
            submission.read()
        except UsageError as error:
            unreadable[submission.name] = error
    return [record for record in records if record.name not in unreadable], unreadable


class Doctor:
    """Examines and repairs one study."""

    def __init__(
        self, home: Home, database: Database, record: StudyRecord, tracking: TrackingSettings
    ) -> None:
        self._home = home
        self._database = database
        self._record = record
        self._tracking = tracking
        self._ledger = Ledger(database, record.name)

    @property
    def study(self) -> str:
        """The study's name."""
        return self._record.name

    def findings(self) -> list[Finding]:
        """Every difference, sorted by trial.

        Raises:
            UnavailableError: the database or MLflow does not answer.
        """
        found = examine(self._home, self._database, [self._record], self._tracking)
        return found[self._record.name]

    def repair(self, say: Callable[[str], None]) -> None:
        """Repairs what can be repaired from this home.

        Raises:
            RefusedError: a driver of this home is at work, which does these things itself.
            UnavailableError: the database or MLflow does not answer.
        """
        with only_driver(self._home, self._record.name):
            recover_study(self._home, self._database, self._record, say, patient=True)
            found = self._repair_once(say)
            if any(finding.kind is Kind.UNSHIPPED for finding in found):
                self._repair_once(say)  # once it is shipped, what else its run lacks shows

    def _repair_once(self, say: Callable[[str], None]) -> list[Finding]:
        trials = Trials(self._database, self._record.spec)
        opened = Journal(self._home, self._database, self._record, UNKNOWN, trials, say=say)
        with closing(opened) as journal:
            found = self.findings()
            for finding in found:
                self._prepare(finding, journal)
        folder = self._home.current_study(self._record.name)
        with shipping(folder, self._tracking, self._ledger, lambda: _SHIPPING_S, say):
            pass
        return found

    def _prepare(self, finding: Finding, journal: Journal) -> None:
        """Prepares the repair of one finding, which the next shipping completes."""
        attempt = finding.attempt
        again = (Kind.MISSING, Kind.INCOMPLETE, Kind.REFUSED)
        if finding.kind in (*again, Kind.RUNNING) and attempt is not None:
            if finding.kind is not Kind.RUNNING or self._has_spool(attempt):
                journal.attempt_named(attempt)
                forget_progress(self._home.attempt(self._record.name, attempt.slot, attempt.number))
            elif attempt.outcome is not None:
                journal.attempt_abandoned(attempt)
        elif finding.kind is Kind.UNNAMED and attempt is not None:
            self._ledger.name_run(attempt.uid, finding.run_id)
        elif finding.kind in (*again, Kind.RUNNING):
            forget_progress(self._home.parent(self._record.name))
            if not Drivers(self._database, self._record.name).alive():
                trials = Trials(self._database, self._record.spec)
                journal.retell(summarise(self._record.spec, trials, self._ledger))

    def _has_spool(self, attempt: Attempt) -> bool:
        folder = self._home.attempt(self._record.name, attempt.slot, attempt.number)
        return is_own(folder)

"""Clears up after drivers of a home folder that are gone: what they left open is closed here."""

from collections.abc import Callable
from contextlib import closing

from tuner.clock import now_ms
from tuner.home import Home
from tuner.recording.journal import Journal
from tuner.recording.provenance import Provenance
from tuner.recovery.retention import BestModels
from tuner.recovery.takeover import Neighbours
from tuner.search.trials import Trials
from tuner.storage.attempts import Ledger
from tuner.storage.code_versions import CodeVersions
from tuner.storage.database import Database
from tuner.storage.drivers import Drivers
from tuner.storage.studies import StudyRecord
from tuner.study.summary import StudySummary, summarise
from tuner.tracking.spool.shipped import survey


def clear_home(
    home: Home,
    database: Database,
    record: StudyRecord,
    say: Callable[[str], None],
    *,
    patient: bool = False,
) -> None:
    """Closes what dead drivers of this home left open, and the study if nobody is at work on it.

    The caller holds the home's driver lock. One that is `patient` waits until drivers of other
    machines have given a sign of life, a lease at most, where events wait here.

    Raises:
        RefusedError: the study was deleted meanwhile.
    """
    ledger, trials = Ledger(database, record.name), Trials(database, record.spec)
    versions = CodeVersions(database, record.name).all()
    nowhere = Provenance("", "", dirty=False)
    with closing(Journal(home, record, nowhere, versions, say=say)) as journal:
        neighbours = Neighbours(home, database, record.name, journal, say)
        neighbours.clear_up(ledger)
        everywhere = patient and survey(home.devoted(record.name)).pending > 0
        neighbours.settle(lambda: False, of_this_home=not everywhere)
        BestModels(home, record.spec, ledger, journal, trials.all())
        close_study(home, database, journal, ledger, summarise(record.spec, trials, ledger))
    _name_runs(home, record.name, ledger)


def close_study(
    home: Home, database: Database, journal: Journal, ledger: Ledger, summary: StudySummary
) -> None:
    """Closes the parent's spool here as the study stands, unless somebody is at work on it."""
    members = Drivers(database, summary.study)
    if members.registered():
        return
    ends = [attempt.ended_ms for attempt in ledger.attempts() if attempt.ended_ms is not None]
    alone = members.homes() <= {home.uid, ""}
    journal.ensure_closed(summary, ended_ms=max(ends, default=now_ms()), alone=alone)


def _name_runs(home: Home, study: str, ledger: Ledger) -> None:
    """Writes into the ledger which runs show its attempts, where a driver died before it could."""
    runs = survey(home.devoted(study)).runs
    for attempt in ledger.attempts():
        if attempt.run_id is None and attempt.uid in runs:
            ledger.name_run(attempt.uid, runs[attempt.uid])

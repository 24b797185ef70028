"""What drivers that died, or that MLflow kept waiting, have left in a home folder."""

import time
from collections.abc import Callable
from contextlib import closing

from tuner.errors import RefusedError, UnavailableError
from tuner.home import Home
from tuner.study.catalog import Catalog, StudyRecord
from tuner.study.cleaning import clean
from tuner.study.database import Database
from tuner.study.journal import Journal
from tuner.study.keeping import BestModels
from tuner.study.ledger import Ledger
from tuner.study.lock import only_driver
from tuner.study.members import Members
from tuner.study.neighbours import Neighbours
from tuner.study.progress import Notify, Step
from tuner.study.provenance import Provenance
from tuner.study.shipment import shipping
from tuner.study.summary import StudySummary, summarise
from tuner.study.trials import Trials
from tuner.tracking.progress import survey
from tuner.tracking.settings import TrackingSettings

_SHIPPING_S = 20.0
"""How long one study may keep a worker from looking for another."""


class Unshipped:
    """The studies of a home folder that are not over, or that MLflow lacks something of.

    One that goes on elsewhere may displace a model that was kept here.
    """

    def __init__(self, home: Home, notify: Notify) -> None:
        """Expects every study that the folder holds to be one."""
        self._home = home
        self._notify = notify
        self._tracking = TrackingSettings.from_environment(home.root)
        self._names = set(home.studies())
        self._tried = float("-inf")

    def expect(self, study: str) -> None:
        """A driver is about to work on the study here."""
        self._names.add(study)

    def ship(self, database: Database, max_age_s: float = 0.0) -> None:
        """Closes and ships what it can, unless that was tried `max_age_s` ago or less."""
        if time.monotonic() - self._tried < max_age_s:
            return
        clean(self._home, Catalog(database))
        for name in sorted(self._names):
            record = Catalog(database).find(name)
            if record is None or self._home.devoted_to(name) not in ("", record.uid):
                self._names.discard(name)
            else:
                self._ship(database, record)
        self._tried = time.monotonic()

    def check(self) -> None:
        """Refuses to call it a day while something waits.

        Raises:
            UnavailableError: something does.
        """
        if waiting := sorted(name for name in self._names if self._pending(name)):
            raise UnavailableError(
                f"MLflow does not have everything of {', '.join(waiting)}; run tuner "
                "sync, or the worker again, with the same TUNER_HOME once it answers"
            )

    def _ship(self, database: Database, record: StudyRecord) -> None:
        folder, ledger = self._home.study(record.name), Ledger(database, record.name)
        try:
            with only_driver(self._home, record.name):
                standing = clear_home(self._home, database, record, self._say)
                if self._pending(record.name):
                    with shipping(folder, self._tracking, ledger, lambda: _SHIPPING_S, self._say):
                        pass
        except RefusedError:
            return  # a driver of this home is at work, which ships it
        if standing.done and not self._pending(record.name):
            self._names.discard(record.name)

    def _pending(self, study: str) -> bool:
        return bool(survey(self._home.study(study)).pending)

    def _say(self, text: str) -> None:
        self._notify(Step(text))


def clear_home(
    home: Home, database: Database, record: StudyRecord, say: Callable[[str], None]
) -> StudySummary:
    """Closes what dead drivers of this home left open, and the study if nobody is at work on it.

    Whoever calls holds the home's driver lock. Returns where the study stands.
    """
    ledger = Ledger(database, record.name)
    with closing(Journal(home, record, Provenance("", "", ()), say=say)) as journal:
        Neighbours(home, database, record.name, journal, say).clear_up(ledger)
        trials = Trials(database, record.spec)
        BestModels(home, record.spec, ledger, journal, trials.all())
        standing = summarise(record.spec, trials, ledger)
        if not Members(database, record.name).present():
            journal.ensure_closed(standing)
        return standing

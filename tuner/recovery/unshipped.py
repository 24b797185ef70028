"""Ships what earlier drivers left in a worker's home, between the worker's jobs."""

import time

from tuner.errors import RefusedError, UnavailableError, UsageError
from tuner.home import Home
from tuner.recording.shipping import shipping
from tuner.recovery.home_cleanup import clean_home
from tuner.recovery.takeover import recover_study
from tuner.search.race_trials import has_free_slot
from tuner.storage.attempts import Ledger
from tuner.storage.database import Database
from tuner.storage.studies import Catalog
from tuner.study.driver_events import Notify, SetupStep
from tuner.study.driver_lock import is_driven_here, only_driver
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.spool.shipped import survey

_SHIPPING_S = 20.0
"""Seconds that one study may keep a worker from looking for others, after its shipper started."""
_PAUSE_S, _LONGEST_PAUSE_S = 30.0, 480.0
"""The pause between two tries doubles while MLflow is away: a worker that ships does not query the
other drivers, which it must do for half a lease before it takes a dead one over."""


class UnshippedStudies:
    """The studies of a home that have not ended, or of which MLflow lacks something.

    A study that runs on another machine may still displace a model that is kept here.
    """

    def __init__(self, home: Home, notify: Notify) -> None:
        """Begins with every study in the home."""
        self._home = home
        self._notify = notify
        self._tracking = TrackingSettings.from_environment(home.root)
        self._names = set(home.studies())
        self._uncleared = set(self._names)
        """Studies in which a driver may have left something open."""
        self._stuck: set[str] = set()
        """The study, at most one, of which MLflow took nothing the last time."""
        self._due = float("-inf")
        self._pause_s = _PAUSE_S
        self._refusal = ""
        """Why MLflow refused every run."""

    def expect(self, study: str) -> None:
        """Adds a study that a driver is about to work on here."""
        self._names.add(study)
        self._uncleared.add(study)

    def ship_if_due(self, database: Database) -> bool:
        """Calls `ship` when the pause is over; returns whether it was."""
        due = time.monotonic() >= self._due
        if due:
            self.ship(database)
        return due

    def ship(self, database: Database) -> None:
        """Closes and ships each study, until MLflow takes nothing of one: MLflow is away then.

        The next call begins with the other studies, since that study alone may be the reason.

        Raises:
            UnavailableError: the database does not answer.
        """
        clean_home(self._home, Catalog(database))
        names = sorted(self._names, key=lambda name: (name in self._stuck, name))
        self._stuck.clear()
        for name in names:
            try:
                self._look_after(database, name)
            except RefusedError:
                continue  # a driver of this home works on it, or it was just deleted
            except UsageError as error:  # written by a newer tuner
                self._say(f"{name} is left to others: {error}")
                self._names.discard(name)
        waits = any(map(self._is_pending, self._names))
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S) if waits else _PAUSE_S
        self._due = time.monotonic() + self._pause_s

    def check(self) -> None:
        """Checks that MLflow has everything, except what a driver of this home still ships.

        Raises:
            UnavailableError: MLflow lacks events.
        """
        waiting = [
            name
            for name in sorted(self._names)
            if self._is_pending(name) and not is_driven_here(self._home, name)
        ]
        if waiting:
            raise UnavailableError(
                f"MLflow does not have everything of {', '.join(waiting)}; run tuner "
                "sync, or the worker again, with the same TUNER_HOME once it answers"
                + (f" ({self._refusal})" if self._refusal else "")
            )

    def _look_after(self, database: Database, name: str) -> None:
        """Closes and ships one study, unless it still runs and nothing here waits."""
        record = Catalog(database).find(name)
        if record is None or self._home.current_uid(name) not in ("", record.uid):
            self._names.discard(name)
            return
        ledger = Ledger(database, name)
        over = not ledger.open_attempts() and not has_free_slot(database, record.spec, ledger)
        if not over and name not in self._uncleared and not self._is_pending(name):
            return
        with only_driver(self._home, name):
            recover_study(self._home, database, record, self._say)
            self._uncleared.discard(name)
            if not self._stuck:
                self._ship(name, ledger)
        if over and not self._is_pending(name):
            self._names.discard(name)

    def _ship(self, name: str, ledger: Ledger) -> None:
        pending = self._pending(name)
        if not pending:
            return
        self._stuck.add(name)
        folder = self._home.current_study(name)
        try:
            with shipping(
                folder, self._tracking, ledger, lambda: _SHIPPING_S, self._say
            ) as shipment:
                shipment.wait_started()
        except UnavailableError as error:  # until a person has repaired something
            self._say_once(str(error))
            return
        self._refusal = ""
        if self._pending(name) < pending:
            self._stuck.discard(name)

    def _say_once(self, refusal: str) -> None:
        if refusal != self._refusal:
            self._say(refusal)
        self._refusal = refusal

    def _is_pending(self, study: str) -> bool:
        return bool(self._pending(study))

    def _pending(self, study: str) -> int:
        return survey(self._home.current_study(study)).pending

    def _say(self, text: str) -> None:
        self._notify(SetupStep(text))

"""What drivers that died, or that MLflow kept waiting, have left in a home folder."""

import time

from tuner.errors import RefusedError, UnavailableError, UsageError
from tuner.home import Home
from tuner.recording.shipping import shipping
from tuner.recovery.cleaning import clean
from tuner.recovery.clearing import clear_home
from tuner.storage.attempts import Ledger
from tuner.storage.database import Database
from tuner.storage.studies import Catalog
from tuner.study.driver_events import Notify, SetupStep
from tuner.study.driver_lock import is_driven_here, only_driver
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.spool.shipped import survey

_SHIPPING_S = 20.0
"""How long one study may keep a worker from looking for another, once its shipper has started."""
_AGAIN_S, _LONGEST_AGAIN_S = 30.0, 480.0
"""The pause between two tries doubles while MLflow is away: a worker that ships cannot see
whether other drivers beat, and gives up a dead one only after a lease of watching it."""


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
        self._uncleared = set(self._names)
        """Those that a driver may have left something open in."""
        self._stuck: set[str] = set()
        """What MLflow took nothing of, the last time: one study at most."""
        self._due = float("-inf")
        self._pause_s = _AGAIN_S
        self._complaint = ""
        """What turned down every run, as MLflow says it."""

    def expect(self, study: str) -> None:
        """A driver is about to work on the study here."""
        self._names.add(study)
        self._uncleared.add(study)

    def ship_if_due(self, database: Database) -> bool:
        """As `ship`, now and then; whether it was time to."""
        due = time.monotonic() >= self._due
        if due:
            self.ship(database)
        return due

    def ship(self, database: Database) -> None:
        """Closes what it can, and ships until MLflow takes nothing of a study: it is away then.

        The next call begins with the others, since that study alone may be the reason.
        """
        clean(self._home, Catalog(database))
        names = sorted(self._names, key=lambda name: (name in self._stuck, name))
        self._stuck.clear()
        for name in names:
            try:
                self._look_after(database, name)
            except RefusedError:
                continue  # a driver of this home is at work, or it was deleted just now
            except UsageError as error:  # of a newer tuner
                self._say(f"{name} is left to others: {error}")
                self._names.discard(name)
        waits = any(map(self._is_pending, self._names))
        self._pause_s = min(2 * self._pause_s, _LONGEST_AGAIN_S) if waits else _AGAIN_S
        self._due = time.monotonic() + self._pause_s

    def check(self) -> None:
        """Refuses to call it a day while something waits that nobody here is shipping.

        Raises:
            UnavailableError: something does.
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
                + (f" ({self._complaint})" if self._complaint else "")
            )

    def _look_after(self, database: Database, name: str) -> None:
        """Of a study that goes on elsewhere, only what has not been looked at or waits."""
        record = Catalog(database).find(name)
        if record is None or self._home.devoted_to(name) not in ("", record.uid):
            self._names.discard(name)
            return
        ledger = Ledger(database, name)
        over = not ledger.open_attempts() and not ledger.has_free(record.spec.slots)
        if not over and name not in self._uncleared and not self._is_pending(name):
            return
        with only_driver(self._home, name):
            clear_home(self._home, database, record, self._say)
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
        folder = self._home.devoted(name)
        try:
            with shipping(
                folder, self._tracking, ledger, lambda: _SHIPPING_S, self._say
            ) as shipment:
                shipment.wait_started()
        except UnavailableError as error:  # until a person has mended something
            self._complain(str(error))
            return
        self._complaint = ""
        if self._pending(name) < pending:
            self._stuck.discard(name)

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._say(text)
        self._complaint = text

    def _is_pending(self, study: str) -> bool:
        return bool(self._pending(study))

    def _pending(self, study: str) -> int:
        return survey(self._home.devoted(study)).pending

    def _say(self, text: str) -> None:
        self._notify(SetupStep(text))

"""Brings to MLflow what a study's spools on this machine still hold, without driving it."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tuner.errors import RefusedError, UsageError
from tuner.home import Home
from tuner.recording.shipping import shipping, tell_lacking
from tuner.recovery.clearing import clear_home
from tuner.storage.attempts import Ledger
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog
from tuner.study.driver_lock import only_driver
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.spool.shipped import survey


@dataclass(frozen=True)
class Synced:
    """How much of one study waited to be shipped."""

    study: str
    before: int
    """Events, before it was tried."""
    after: int
    """Events that wait still."""


def sync(
    home: Home, study: str | None, timeout_s: float, say: Callable[[str], None]
) -> list[Synced]:
    """Ships one study's events, or those of all, each for `timeout_s` at most.

    May run at any time: beside a driver it waits for that one's shipper. What drivers of this
    home that died have left open is closed first.

    Raises:
        UsageError: there is no such study.
        UnavailableError: the database does not answer.
    """
    tracking = TrackingSettings.from_environment(home.root)
    with open_database(home) as database:
        catalog = Catalog(database)
        names = catalog.names() if study is None else [catalog.get(study).name]
        found = []
        for name in names:
            try:
                record = catalog.get(name)
                if home.devoted_to(name) not in ("", record.uid):
                    continue  # it holds another study of that name
                with suppress(RefusedError), only_driver(home, name):  # else its driver sees to it
                    clear_home(home, database, record, say, patient=True)
            except UsageError as error:  # of a newer tuner, changed by hand, or deleted just now
                say(f"{name} is left out: {error}")
                continue
            folder = home.devoted(name)
            known = survey(folder)
            before = known.pending
            if not before:
                tell_lacking(known, say)
            else:
                ledger = Ledger(database, name)
                with shipping(folder, tracking, ledger, lambda: timeout_s, say):
                    pass
            found.append(Synced(name, before, survey(folder).pending))
        return found

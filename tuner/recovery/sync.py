"""Ships the events that wait in this home's spools, without a driver."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tuner.errors import RefusedError, UsageError
from tuner.home import Home
from tuner.recording.shipping import report_refused_parts, shipping
from tuner.recovery.takeover import recover_study
from tuner.storage.attempts import Ledger
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog
from tuner.study.driver_lock import only_driver
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.spool.shipped import survey


@dataclass(frozen=True)
class Synced:
    """How many events of one study waited to be shipped."""

    study: str
    before: int
    after: int
    """Those that still wait."""


def sync(
    home: Home, study: str | None, timeout_s: float, say: Callable[[str], None]
) -> list[Synced]:
    """Ships the events of one study or of all studies.

    First closes what dead drivers of this home left open. Beside a living driver it waits for that
    driver's shipper.

    Args:
        home: the home whose spools are shipped.
        study: the study's name; None for all.
        timeout_s: seconds for each study.
        say: receives messages for people.

    Raises:
        UsageError: there is no such study.
        UnavailableError: the database does not answer, or MLflow refuses every run until a person
            has repaired something.
    """
    tracking = TrackingSettings.from_environment(home.root)
    with open_database(home) as database:
        catalog = Catalog(database)
        names = catalog.names() if study is None else [catalog.get(study).name]
        found = []
        for name in names:
            try:
                record = catalog.get(name)
                if home.current_uid(name) not in ("", record.uid):
                    continue  # this home holds another study of that name
                with suppress(RefusedError), only_driver(home, name):  # else its driver does it
                    recover_study(home, database, record, say, patient=True)
            except UsageError as error:  # by a newer tuner, changed by hand, or deleted
                say(f"{name} is left out: {error}")
                continue
            folder = home.current_study(name)
            known = survey(folder)
            before = known.pending
            if not before:
                report_refused_parts(known, say)
            else:
                ledger = Ledger(database, name)
                with shipping(folder, tracking, ledger, lambda: timeout_s, say):
                    pass
            found.append(Synced(name, before, survey(folder).pending))
        return found

"""An existing study, for callers that read or change it but do not run it."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from tuner.datasets.prepare import prepare_apart
from tuner.datasets.store import DatasetInfo
from tuner.errors import DataError, RefusedError, UsageError
from tuner.home import Home
from tuner.search import points
from tuner.search.trials import Trials
from tuner.spec.samplers import Grid
from tuner.spec.search_space import Scalar
from tuner.spec.study_spec import StudySpec
from tuner.storage.attempts import Attempt, Ledger
from tuner.storage.code_versions import CodeVersions
from tuner.storage.database import Database
from tuner.storage.drivers import DriverRecord, Drivers
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog, DesiredState, Registrations, StudyRecord
from tuner.storage.test_set_accesses import TestSetAccesses
from tuner.study.code_folders import folders_here
from tuner.study.driver_events import Notify, SetupStep
from tuner.study.driver_lock import is_driven_here, only_driver
from tuner.study.following import Follower
from tuner.study.summary import StudySummary, Tally, summarise
from tuner.tracking.spool.shipping_lock import nobody_ships
from tuner.words import command


class Study:
    """A study in the database. Close it, or use it in a `with` block."""

    def __init__(self, home: Home, database: Database, record: StudyRecord) -> None:
        self.record = record
        self._home = home
        self._database = database
        self._catalog = Catalog(database)
        self._ledger = Ledger(database, record.name)
        self._drivers = Drivers(database, record.name)
        self.trials = Trials(database, record.spec)
        self.test_set_accesses = TestSetAccesses(database, record)
        self.registrations = Registrations(database, record.name)
        self.code_versions = CodeVersions(database, record.name)

    @property
    def name(self) -> str:
        """The study's name."""
        return self.record.name

    @property
    def home(self) -> Home:
        """The home folder that it was opened in."""
        return self._home

    @property
    def spec(self) -> StudySpec:
        """The study file as it was last run."""
        return self.record.spec

    def sibling(self, name: str) -> "Study | None":
        """Returns another study of the same database, to be used while this one is open."""
        record = self._catalog.find(name)
        return None if record is None else Study(self._home, self._database, record)

    def sibling_names(self) -> list[str]:
        """Returns the names of all studies of the same database, the newest last."""
        return self._catalog.names()

    def create_sibling(self, spec: StudySpec) -> None:
        """Creates another study on the data set and the code of this one.

        Raises:
            RefusedError: there is a study of that name.
        """
        if self._catalog.find(spec.name) is not None:
            raise RefusedError(f"there is another study {spec.name!r}: rename or delete it first")
        record, versions = self.record, self.code_versions.all()
        self._catalog.create(
            spec,
            record.source,
            record.code_path,
            record.dataset,
            overrides=record.overrides,
            files=versions[-1].files if versions else None,
        )

    def summary(self) -> StudySummary:
        """Returns the study's trials, points and counts as they are now."""
        return summarise(self.spec, self.trials, self._ledger)

    def importance(self) -> dict[str, float]:
        """Returns the importance of each parameter that varied; the values add up to 1.

        A driver stores it at its end. Until then it is computed on request, which takes some
        seconds. Empty while `why_no_importance` returns a reason.
        """
        return self.trials.importance()

    def why_no_importance(self) -> str:
        """Returns why there is no importance yet, as text. Empty if there is."""
        return self.trials.why_no_importance()

    def dataset(self) -> DatasetInfo:
        """Returns the data set on this machine. Prepares it if it is not here yet.

        Raises:
            DataError: the data set cannot be prepared here, or it differs from the study's.
        """
        recorded = self.record.dataset
        if os.path.exists(recorded.folder):  # noqa: PTH110 - it may be another machine's
            return recorded
        path = folders_here(self.record.code_path)
        found = prepare_apart(self.spec.dataset, self._home.datasets, path, lambda _line: None)
        if found.digest != recorded.digest:
            raise DataError(
                f"data set {recorded.name}: the study was trained on digest "
                f"{recorded.digest[:12]}, here it has {found.digest[:12]}"
            )
        return found

    @property
    def datasets(self) -> Path:
        """The folder with the data sets that are prepared on this machine."""
        return self._home.datasets

    def run_ids(self) -> list[str]:
        """Returns the ids of the attempts' MLflow runs, without runs that do not exist yet."""
        return [attempt.run_id for attempt in self._ledger.attempts() if attempt.run_id]

    def attempts(self, slot: int) -> Sequence[Attempt]:
        """Returns the attempts at a slot, the oldest first."""
        return [attempt for attempt in self._ledger.attempts() if attempt.slot == slot]

    def host(self, slot: int) -> str:
        """Returns the name of the machine that ran the newest attempt at a slot."""
        return self._drivers.hosts()[self.attempts(slot)[-1].driver]

    def enqueue(self, point: Mapping[str, Scalar]) -> int:
        """Queues a configuration to try next. The sampler chooses the parameters it leaves out.

        Returns:
            How many configurations are queued now.

        Raises:
            UsageError: it is not in the search space, or the study uses a grid.
        """
        if self.spec.origin is not None:
            raise UsageError(f"study {self.name!r}: its points are fixed, so none can be queued")
        if isinstance(self.spec.sampler, Grid):
            raise UsageError(
                f"study {self.name!r}: its grid fixes every configuration, so none can be queued"
            )
        problems = self.spec.point_problems(point)
        if not points.searched(self.spec, dict(point)):
            problems.append("must give at least one searched parameter")
        if problems:
            raise UsageError("\n".join(f"study {self.name!r}: {problem}" for problem in problems))
        self._ledger.enqueue(points.searched(self.spec, dict(point)))
        return self._ledger.queued()

    def open_points(self) -> int:
        """Returns how many points of the budget are not chosen yet: the queue can fill these."""
        tried = self._ledger.latest()
        return sum(
            points.takes_queued(self.spec, slot)
            for slot in range(self.spec.slots)
            if slot not in tried
        )

    def set_desired_state(self, state: DesiredState) -> None:
        """Stores the state that drivers and workers read: run, pause or stop."""
        self._catalog.set_desired_state(self.name, state)

    def desired_state(self) -> DesiredState:
        """Returns the desired state as it is now."""
        return self._catalog.desired_state(self.name)

    def follow(self, notify: Notify, stopped: Callable[[], bool]) -> StudySummary:
        """Reports the progress of every trial until all have ended, or the study has stopped.

        A study has stopped when `stop` was requested and no driver is left, or a lease after the
        last one died. A paused study, one without drivers, and an unavailable database are waited
        for.

        Args:
            notify: receives the events.
            stopped: whether to end now.

        Raises:
            RefusedError: the study was deleted.
            SQLAlchemyError: the database was unavailable for 15 minutes.
        """
        alone = False

        def over(summary: StudySummary) -> bool:
            nonlocal alone
            if summary.done:
                return True
            stopping = self.desired_state() is DesiredState.STOP
            before, alone = alone, not self.is_driven()
            if alone and not before:
                say("no driver is running; it resumes with a tuner worker, or tuner run-study")
            return stopping and alone

        def say(text: str) -> None:
            notify(SetupStep(text))

        def spec_now() -> StudySpec:
            record = self._catalog.find(self.name)
            if record is None:
                raise RefusedError(f"study {self.name!r} was deleted meanwhile")
            return record.spec

        with self._database.retrying(stopped, say):
            follower = Follower(spec_now, self.trials, self._ledger, self._drivers, notify)
            return follower.follow(over, stopped)

    def state(self, tally: Tally) -> str:
        """Returns one word: done, running, stopping, stopped, paused, or open for any driver."""
        return state_of(tally, self.desired_state(), self.is_driven)

    def is_driven(self) -> bool:
        """Whether a driver that is not known to be dead works on the study.

        A driver of this home folder counts as dead if no process holds the driver lock. A
        driver on another machine does if repeated calls have seen no heartbeat for a lease.
        """
        dead = self._drivers.dead()
        living = [each for each in self._drivers.registered() if each not in dead]
        return is_driven(self._home, self.name, living)

    def check_idle(self) -> None:
        """Checks that no driver works on the study. Waits half a lease for one that seems dead.

        Raises:
            RefusedError: a driver works on it.
        """
        refusal = f"study {self.name!r} is running; stop it first: {command('stop', self.name)}"
        if is_driven_here(self._home, self.name):
            raise RefusedError(refusal)
        if living := self._drivers.alive():
            hosts = ", ".join(sorted({each.process.host for each in living}))
            lease_s = max(each.lease_s for each in living)
            raise RefusedError(
                f"{refusal}; if its driver on {hosts} has died, try again in {lease_s:g} s"
            )

    def delete(self, before: Callable[[], None] = lambda: None) -> None:
        """Deletes the study from the database, and its files from this machine.

        First ends the process that ships its events to MLflow. The record of its accesses to the
        test set stays.

        Args:
            before: called when no driver and no shipper works on the study any more.

        Raises:
            RefusedError: a driver works on it.
        """
        self.check_idle()
        folder = self._home.study(self.name)
        with only_driver(self._home, self.name), nobody_ships(folder):
            before()
            self._catalog.delete(self.name)
            self._home.remove(self.name)

    def close(self) -> None:
        """Closes the database connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._database.__exit__(kind, error, trace)


def state_of(tally: Tally, desired: DesiredState, is_driven: Callable[[], bool]) -> str:
    """Returns the state of a study in one word, see `Study.state`."""
    if tally.done:
        return "done"
    if desired is DesiredState.STOP:
        return "stopping" if is_driven() else "stopped"
    if desired is DesiredState.PAUSE:
        return "paused"
    return "running" if is_driven() else "open"


def is_driven(home: Home, study: str, registered: Iterable[DriverRecord]) -> bool:
    """Whether one of the registered drivers is not known to be dead, see `Study.is_driven`."""
    if is_driven_here(home, study):
        return True
    return not all(each.is_gone or each.home == home.uid for each in registered)


def load_study(name: str, home: Home | None = None) -> Study:
    """Opens a study.

    Args:
        name: its name, from the study file or `--name`.
        home: the home folder; by default `TUNER_HOME`, or else `.tuner`.

    Raises:
        UsageError: there is no such study, or it cannot be read.
        UnavailableError: the database does not answer.
    """
    place = home or Home.from_environment()
    database = open_database(place)
    try:
        return Study(place, database, Catalog(database).get(name))
    except UsageError:
        database.close()
        raise

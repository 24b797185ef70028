"""A study that exists, for callers that read or change it without driving it."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
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
from tuner.storage.attempts import Ledger
from tuner.storage.database import Database
from tuner.storage.drivers import Member, Members, Watch
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog, Registrations, StudyRecord, Wish
from tuner.storage.test_set_accesses import TestSetAccesses
from tuner.study.code_folders import folders_here
from tuner.study.driver_events import Notify, SetupStep
from tuner.study.driver_lock import is_driven_here, only_driver
from tuner.study.following import Follower
from tuner.study.summary import StudySummary, Tally, summarise
from tuner.tracking.spool.shipping_lock import nobody_ships


class Study:
    """A study in the database. Close it, or use it in a `with` block."""

    def __init__(self, home: Home, database: Database, record: StudyRecord) -> None:
        self.record = record
        self._home = home
        self._database = database
        self._catalog = Catalog(database)
        self._ledger = Ledger(database, record.name)
        self._members = Members(database, record.name)
        self.trials = Trials(database, record.spec)
        self.looks = TestSetAccesses(database, record.name)
        self.registrations = Registrations(database, record.name)

    @property
    def name(self) -> str:
        """The study's name."""
        return self.record.name

    @property
    def spec(self) -> StudySpec:
        """The study file as it was last run."""
        return self.record.spec

    def summary(self) -> StudySummary:
        """Where the study stands at this moment."""
        return summarise(self.spec, self.trials, self._ledger)

    def importance(self) -> dict[str, float]:
        """How much each parameter that varied matters, as shares of 1, as last assessed.

        A driver assesses it about twice a minute and at its end. Empty for as long as
        `importance_lacks` something.
        """
        return self.trials.importance()

    def importance_lacks(self) -> str:
        """What is missing before importance can be told, in words; empty when nothing is."""
        return self.trials.importance_lacks()

    def dataset(self) -> DatasetInfo:
        """The data set on this machine, prepared here if the study's drivers were elsewhere.

        Raises:
            DataError: what is found here is other data.
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

    def run_ids(self) -> list[str]:
        """The MLflow runs of every attempt, as far as they are known."""
        return [attempt.run_id for attempt in self._ledger.attempts() if attempt.run_id]

    def enqueue(self, point: Mapping[str, Scalar]) -> int:
        """Puts a point, complete or not, in line; returns how many wait now.

        Raises:
            UsageError: it is no point of the search space, or the study enumerates a grid.
        """
        if isinstance(self.spec.sampler, Grid):
            raise UsageError(f"study {self.name!r}: a grid enumerates its points, nothing waits")
        problems = self.spec.point_problems(point)
        if not points.searched(self.spec, dict(point)):
            problems.append("must give at least one searched parameter")
        if problems:
            raise UsageError("\n".join(f"study {self.name!r}: {problem}" for problem in problems))
        self._ledger.enqueue(points.searched(self.spec, dict(point)))
        return self._ledger.queued()

    def places_for_queued(self) -> int:
        """How many points of the budget are still for the line or the sampler to choose."""
        tried = self._ledger.latest()
        return sum(
            points.takes_queued(self.spec, slot)
            for slot in range(self.spec.slots)
            if slot not in tried
        )

    def ask(self, wish: Wish) -> None:
        """Tells its drivers, and workers that might join them, what is wanted."""
        self._catalog.ask(self.name, wish)

    def wish(self) -> Wish:
        """What is wanted of its drivers now."""
        return self._catalog.wish(self.name)

    def follow(self, notify: Notify, stopped: Callable[[], bool]) -> StudySummary:
        """Tells of every trial as it goes on, until all have ended or the study has come to rest.

        It rests when it was stopped and no driver is left; paused, or without drivers, it is
        waited for. A database that is away is waited for too.

        Raises:
            RefusedError: the study was deleted.
        """
        alone = False

        def over(summary: StudySummary) -> bool:
            nonlocal alone
            before, alone = alone, not (summary.done or self.is_driven())
            if alone and not before:
                say("no driver is at work; it goes on with a tuner worker, or tuner run-study")
            return summary.done or (self.wish() == "stop" and not self.is_driven())

        def say(text: str) -> None:
            notify(SetupStep(text))

        def spec_now() -> StudySpec:
            record = self._catalog.find(self.name)
            if record is None:
                raise RefusedError(f"study {self.name!r} was deleted meanwhile")
            return record.spec

        with self._database.patient(stopped, say):
            follower = Follower(spec_now, self.trials, self._ledger, self._members, notify)
            return follower.follow(over, stopped)

    def state(self, tally: Tally) -> str:
        """In a word: done, running, stopping, stopped, paused, or open for any driver."""
        return state_of(tally, self.wish(), self.is_driven)

    def is_driven(self) -> bool:
        """Whether a driver that is not known to be dead works on the study.

        One of this home, whose lock nobody holds, is taken for dead without being watched.
        """
        return is_driven(self._home, self.name, self._members.present())

    def check_idle(self) -> None:
        """Refuses while a driver works on the study.

        Drivers on other machines that may be dead are watched for their lease.

        Raises:
            RefusedError: one does.
        """
        if is_driven_here(self._home, self.name) or self._others_beat():
            raise RefusedError(
                f"study {self.name!r} is running; stop it first: tuner stop {self.name}"
            )

    def _others_beat(self) -> bool:
        watch, first = Watch(self._members, home=self._home.uid), dict[str, int]()
        while True:
            dead = {member.uid for member in watch.silent()}
            alive = [each for each in self._members.present() if each.uid not in dead]
            if not alive:
                return False
            if any(first.setdefault(each.uid, each.beats) != each.beats for each in alive):
                return True
            time.sleep(watch.pace_s)

    def delete(self, before: Callable[[], None] = lambda: None) -> None:
        """Removes the study from the database, and its files from this machine.

        A process that ships its events to MLflow is told to end, and waited for, first.

        Args:
            before: called once nobody works on the study or ships it any more.

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
        """Gives the database connections back."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._database.__exit__(kind, error, trace)


def state_of(tally: Tally, wish: Wish, is_driven: Callable[[], bool]) -> str:
    """The state of a study, as `Study.state` names it."""
    if tally.done:
        return "done"
    if wish == "stop":
        return "stopping" if is_driven() else "stopped"
    if wish == "pause":
        return "paused"
    return "running" if is_driven() else "open"


def is_driven(home: Home, study: str, present: Iterable[Member]) -> bool:
    """Whether one of the drivers `present` is not known to be dead, as `Study.is_driven` says."""
    if is_driven_here(home, study):
        return True
    return not all(each.is_gone or each.home == home.uid for each in present)


def load_study(name: str, home: Home | None = None) -> Study:
    """Opens the study called `name`.

    Args:
        name: as the study file or `--name` gave it.
        home: the state folder; `TUNER_HOME` or `.tuner` when left out.

    Raises:
        UsageError: there is no such study.
        UnavailableError: the database does not answer.
    """
    place = home or Home.from_environment()
    database = open_database(place)
    try:
        return Study(place, database, Catalog(database).get(name))
    except UsageError:
        database.close()
        raise

"""A worker: a driver that joins every study of the database with a free trial, one by one."""

import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import starmap
from math import inf
from typing import Protocol

from tuner.driver.run_study import Terms, begin_study, join_study
from tuner.errors import RefusedError, TunerError, UnavailableError, UsageError, os_error_message
from tuner.home import Home
from tuner.recovery.unshipped import UnshippedStudies
from tuner.search.race_trials import has_free_slot
from tuner.spec.study_spec import AutoOrCount, StudySpec
from tuner.storage.attempts import Ledger
from tuner.storage.database import Database
from tuner.storage.drivers import Drivers
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog, DesiredState
from tuner.study.driver_events import Notify, SetupStep
from tuner.study.submissions import Submissions
from tuner.study.summary import StudySummary

_LOOK_S = 1.0
"""How often an idle worker looks for work."""
_RETRY_S = 30.0
"""When a worker retries a study that its environment did not allow."""
_DATABASE_RETRY_S = 2.0


class Stop(Protocol):
    """The request to end a worker."""

    def received(self) -> bool:
        """Whether it has come. A driver that sees it hands its trials back."""
        ...

    def rest(self) -> None:
        """Says that no trial is in progress: from here on the request may end the process."""
        ...


@dataclass(frozen=True)
class Job:
    """A study that this worker can join or begin."""

    name: str
    text: str
    """The study file as it is now."""
    run: Callable[..., StudySummary]
    submitted: bool = False


@dataclass
class _WatchedStudy:
    """A study that is watched for free trials."""

    database: Database
    ledger: Ledger
    drivers: Drivers
    text: str = ""
    spec: StudySpec | None = None
    """The study in that file."""
    finished: bool = False
    """Whether all trials had ended at the last look. A new file may add trials."""

    def has_work(self) -> bool:
        """Whether a slot is free, or will be since its driver has died."""
        if self.finished:
            return False
        any_died = bool(self.drivers.dead())
        in_progress = self.ledger.open_attempts()  # first: an attempt handed back now counts below
        assert self.spec is not None, "a study without one is finished"
        if any_died or has_free_slot(self.database, self.spec, self.ledger):
            return True
        self.finished = not in_progress
        return False


@dataclass(frozen=True)
class _Refusal:
    """A study that this machine could not run, and when to retry."""

    text: str
    """The study file that was refused; a changed one is tried at once."""
    until: float
    """`time.monotonic()` of the retry; infinity for never."""


class Worker:
    """Runs the studies of one database until it is told to stop.

    Waits for a database that is away. Leaves a study that this machine cannot run to other
    workers: for good if the reason is the study's file, data or model, for half a minute if it is
    the environment.
    """

    def __init__(
        self,
        home: Home,
        *,
        only: Collection[str],
        workers: AutoOrCount,
        notify: Notify,
        stop: Stop,
    ) -> None:
        """Makes an idle worker.

        Args:
            home: the state folder of this machine.
            only: the names of the studies to run; empty for all.
            workers: how many trainers on this machine.
            notify: receives every progress event.
            stop: the request to end.
        """
        self._home = home
        self._only = only
        self._terms = Terms(workers, stays=False)
        self._notify = notify
        self._stop = stop
        self._refusals: dict[str, _Refusal] = {}
        self._unshipped = UnshippedStudies(home, notify)
        self._unchecked: Collection[str] = only
        """The named studies that were not looked up yet."""

    def serve(self, *, until_done: bool) -> None:
        """Runs one study after another, and ships what earlier runs left in this home.

        Args:
            until_done: whether to end when every study has ended, was stopped, or cannot be run
                on this machine.

        Raises:
            UsageError: the database's address is not valid, or with `until_done` a named study
                does not exist at the start.
            UnavailableError: the home cannot be written, or with `until_done` MLflow still lacks
                events of this home at the end.
        """
        complaint = ""
        while True:
            self._stop.rest()
            self._home.create()  # a folder that cannot be written is not waited for
            try:
                with open_database(self._home) as database:
                    job = self._next_job(database, until_done=until_done)
            except UnavailableError as error:
                if str(error) != complaint:
                    self._say(f"{error}; trying again")
                complaint = str(error)
                time.sleep(_DATABASE_RETRY_S)
                continue
            complaint = ""
            if job is None:
                self._unshipped.check()
                return
            self._do(job)

    def _next_job(self, database: Database, *, until_done: bool) -> Job | None:
        """Waits for a job; None when there is no more reason to wait."""
        finder = _JobFinder(database, self._terms, self._say)
        said = False
        self._check_names(finder, until_done=until_done)
        while True:
            jobs = [job for job in finder.jobs() if self._may_run(job.name, job.text)]
            if job := next((job for job in jobs if not self._refused_lately(job)), None):
                return job
            if until_done and not jobs and not any(starmap(self._may_run, finder.unfinished())):
                self._unshipped.ship(database)
                return None
            if self._unshipped.ship_if_due(database):
                continue  # shipping took a while, and may have freed a trial
            if not said:
                self._say("waiting for a study with a trial to take")
                said = True
            time.sleep(finder.pace_s)

    def _check_names(self, finder: "_JobFinder", *, until_done: bool) -> None:
        """Says once which of the named studies do not exist; they may be submitted later.

        Raises:
            UsageError: one does not exist, and the worker is not to wait for it.
        """
        unknown, self._unchecked = finder.unknown(self._unchecked), ()
        if unknown and until_done:
            raise UsageError(
                f"no study {', '.join(unknown)} in this database; see: tuner studies, or hand it "
                "over first: tuner run-study FILE --detach"
            )
        if unknown:
            self._say(f"this database has no study {', '.join(unknown)} yet")

    def _may_run(self, name: str, text: str) -> bool:
        """Whether this worker may run the study, now or later."""
        refusal = self._refusals.get(name)
        hopeless = refusal is not None and refusal.text == text and refusal.until == inf
        return not hopeless and (not self._only or name in self._only)

    def _refused_lately(self, job: Job) -> bool:
        """Whether it is too early to retry the job."""
        refusal = self._refusals.get(job.name)
        just_now = refusal is not None and time.monotonic() < refusal.until
        return refusal is not None and refusal.text == job.text and just_now

    def _do(self, job: Job) -> None:
        self._say(f"joining {job.name}")
        self._unshipped.expect(job.name)
        try:
            job.run(self._home, notify=self._notify, stopped=self._stop.received)
        except (UnavailableError, RefusedError) as error:
            self._refuse(job, error, _RETRY_S)
        except TunerError as error:
            self._refuse(job, error, inf)
        except OSError as error:  # for example a full disk
            self._refuse(job, UnavailableError(os_error_message(error)), _RETRY_S)

    def _refuse(self, job: Job, error: TunerError, pause_s: float) -> None:
        self._say(f"cannot take part in {job.name}: {error}")
        self._refusals[job.name] = _Refusal(job.text, time.monotonic() + pause_s)
        if job.submitted:
            with suppress(UnavailableError), open_database(self._home) as database:
                Submissions(database).refuse(job.name, str(error))

    def _say(self, text: str) -> None:
        self._notify(SetupStep(text))


class _JobFinder:
    """Looks through one database for studies with work."""

    def __init__(self, database: Database, terms: Terms, say: Callable[[str], None]) -> None:
        self._database = database
        self._terms = terms
        self._say = say
        self._catalog = Catalog(database)
        self._submissions = Submissions(database)
        self._watched: dict[str, _WatchedStudy] = {}
        """By uid, since a name may be given to another study."""
        self._open: dict[str, _WatchedStudy] = {}
        """The studies at the last look, by name."""

    def jobs(self) -> list[Job]:
        """The studies with work: those that have begun come first, the oldest first."""
        self._open = {
            name: self._watch(name, uid, text)
            for name, uid, text in self._catalog.in_state(DesiredState.RUN)
        }
        joining = [
            Job(name, study.text, partial(join_study, name, terms=self._joining))
            for name, study in self._open.items()
            if study.has_work()
        ]
        begun = set(self._catalog.names())
        beginning = [
            Job(each.name, each.text, partial(begin_study, each, terms=self._terms), submitted=True)
            for each in self._submissions.all()
            if each.name not in begun
        ]
        return joining + beginning

    def unfinished(self) -> list[tuple[str, str]]:
        """Name and file of the studies that had not ended at the last look, or are paused."""
        paused = [
            (name, text)
            for name, uid, text in self._catalog.in_state(DesiredState.PAUSE)
            if self._watch(name, uid, text).has_work()
        ]
        return paused + [
            (name, study.text) for name, study in self._open.items() if not study.finished
        ]

    def unknown(self, names: Collection[str]) -> list[str]:
        """The names that no study has, whether begun or submitted."""
        known = {*self._catalog.names(), *(each.name for each in self._submissions.all())}
        return sorted(set(names) - known)

    @property
    def pace_s(self) -> float:
        """Seconds to wait before the next look."""
        return min([_LOOK_S, *(study.drivers.pace_s for study in self._open.values())])

    @property
    def _joining(self) -> Terms:
        return replace(self._terms, begins=False)

    def _watch(self, name: str, uid: str, text: str) -> _WatchedStudy:
        if uid not in self._watched:
            database = self._database
            ledger, drivers = Ledger(database, name), Drivers(database, name)
            self._watched[uid] = _WatchedStudy(database, ledger, drivers)
        study = self._watched[uid]
        if study.text != text:
            study.text, study.finished = text, False
            try:
                study.spec = self._catalog.get(name).spec
            except UsageError as error:  # deleted just now, or written by a newer tuner
                self._say(f"cannot take part in {name}: {error}")
                study.finished = True
        return study

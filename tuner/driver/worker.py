"""A worker: joins whatever study of the database has a trial to give, one after another."""

import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import starmap
from math import inf
from typing import Protocol

from tuner.driver.session import Terms, begin_study, join_study
from tuner.errors import RefusedError, TunerError, UnavailableError, UsageError, said_by
from tuner.home import Home
from tuner.recovery.unshipped import Unshipped
from tuner.spec.study_spec import AutoOrCount
from tuner.storage.attempts import Ledger
from tuner.storage.database import Database
from tuner.storage.drivers import Drivers, LeaseMonitor
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog, DesiredState
from tuner.study.driver_events import Notify, SetupStep
from tuner.study.submissions import Submissions
from tuner.study.summary import StudySummary

_LOOK_S = 1.0
"""How often an idle worker looks for work."""
_AGAIN_S = 30.0
"""When a worker tries again what its surroundings did not allow."""
_DATABASE_AGAIN_S = 2.0


class Stop(Protocol):
    """Says when a worker is to end."""

    def received(self) -> bool:
        """Whether a driver is to hand back what it has; asked by one that has something."""
        ...

    def rest(self) -> None:
        """Hears that nothing is in progress any more; ends the process now or at any time."""
        ...


@dataclass(frozen=True)
class Job:
    """A study that has something to do for this worker."""

    name: str
    text: str
    """The study file as it reads now."""
    run: Callable[..., StudySummary]
    submitted: bool = False


@dataclass
class _Prospect:
    """A study that is watched for trials to take."""

    ledger: Ledger
    watch: LeaseMonitor
    text: str = ""
    slots: int = 0
    """As many as the file `text` means."""
    finished: bool = False
    """Whether all its trials had ended; a study may be given more."""

    def has_work(self) -> bool:
        """Whether a slot is free, or is about to be since its driver has died."""
        if self.finished:
            return False
        someone_died = bool(self.watch.dead())
        in_hand = self.ledger.open_attempts()  # first: what is handed back now is seen to be free
        if self.ledger.has_free(self.slots) or someone_died:
            return True
        self.finished = not in_hand
        return False


@dataclass(frozen=True)
class _Refusal:
    """What this machine could not take part in, and when it tries again."""

    text: str
    until: float


class Worker:
    """Serves the studies of one database until it is told to stop.

    A database that is away is waited for. A study that this machine cannot run is left to
    others: for good where the study's file, data or model is the reason, for half a minute
    where the surroundings are.
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
        """Makes an idle one.

        Args:
            home: the state folder of this machine.
            only: the names of the studies to serve; empty for all.
            workers: how many trainers here.
            notify: hears of everything.
            stop: ends it.
        """
        self._home = home
        self._only = only
        self._terms = Terms(workers, stays=False)
        self._notify = notify
        self._stop = stop
        self._refusals: dict[str, _Refusal] = {}
        self._unshipped = Unshipped(home, notify)
        self._unmet: Collection[str] = only

    def serve(self, *, until_done: bool) -> None:
        """Takes one job after another, and ships what earlier ones here left behind.

        With `until_done` it ends when every study that it may serve has ended, was stopped, or
        cannot be run here.

        Raises:
            UsageError: the database's address cannot be read, or with `until_done` a study that
                it is to serve is not there when it starts.
            UnavailableError: the home cannot be written, or MLflow does not have everything yet
                that was recorded here.
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
                time.sleep(_DATABASE_AGAIN_S)
                continue
            complaint = ""
            if job is None:
                self._unshipped.check()
                return
            self._do(job)

    def _next_job(self, database: Database, *, until_done: bool) -> Job | None:
        """Waits for one; None when there is no reason to wait any longer."""
        look = _Lookout(database, self._terms, self._say)
        said = False
        self._meet(look, until_done=until_done)
        while True:
            jobs = [job for job in look.jobs() if self._may(job.name, job.text)]
            if job := next((job for job in jobs if not self._refused(job)), None):
                return job
            if until_done and not jobs and not any(starmap(self._may, look.unfinished())):
                self._unshipped.ship(database)
                return None
            if self._unshipped.ship_if_due(database):
                continue  # that took a while, and may have handed a trial back
            if not said:
                self._say("waiting for a study with a trial to take")
                said = True
            time.sleep(look.pace_s)

    def _meet(self, look: "_Lookout", *, until_done: bool) -> None:
        """Says once which of the studies to serve are not there; they may be yet to come."""
        unknown, self._unmet = look.unknown(self._unmet), ()
        if unknown and until_done:
            raise UsageError(
                f"no study {', '.join(unknown)} in this database; see: tuner studies, or hand it "
                "over first: tuner run-study FILE --detach"
            )
        if unknown:
            self._say(f"this database has no study {', '.join(unknown)} yet")

    def _may(self, name: str, text: str) -> bool:
        """Whether it is one of those to serve, and can be run here at some time."""
        refusal = self._refusals.get(name)
        hopeless = refusal is not None and refusal.text == text and refusal.until == inf
        return not hopeless and (not self._only or name in self._only)

    def _refused(self, job: Job) -> bool:
        """Whether it was refused a moment ago."""
        refusal = self._refusals.get(job.name)
        just_now = refusal is not None and time.monotonic() < refusal.until
        return refusal is not None and refusal.text == job.text and just_now

    def _do(self, job: Job) -> None:
        self._say(f"joining {job.name}")
        self._unshipped.expect(job.name)
        try:
            job.run(self._home, notify=self._notify, stopped=self._stop.received)
        except (UnavailableError, RefusedError) as error:
            self._turn_down(job, error, _AGAIN_S)
        except TunerError as error:
            self._turn_down(job, error, inf)
        except OSError as error:  # for example a full disk
            self._turn_down(job, UnavailableError(said_by(error)), _AGAIN_S)

    def _turn_down(self, job: Job, error: TunerError, pause_s: float) -> None:
        self._say(f"cannot take part in {job.name}: {error}")
        self._refusals[job.name] = _Refusal(job.text, time.monotonic() + pause_s)
        if job.submitted:
            with suppress(UnavailableError), open_database(self._home) as database:
                Submissions(database).refuse(job.name, str(error))

    def _say(self, text: str) -> None:
        self._notify(SetupStep(text))


class _Lookout:
    """Looks through one database for trials to take."""

    def __init__(self, database: Database, terms: Terms, say: Callable[[str], None]) -> None:
        self._database = database
        self._terms = terms
        self._say = say
        self._catalog = Catalog(database)
        self._submissions = Submissions(database)
        self._prospects: dict[str, _Prospect] = {}
        """By uid, since another study may come to have the name."""
        self._open: dict[str, _Prospect] = {}
        """Those of the last look, by name."""

    def jobs(self) -> list[Job]:
        """What there is to do: first the studies that have begun, the oldest first."""
        self._open = {
            name: self._prospect(name, uid, text)
            for name, uid, text in self._catalog.in_state(DesiredState.RUN)
        }
        joining = [
            Job(name, prospect.text, partial(join_study, name, terms=self._joining))
            for name, prospect in self._open.items()
            if prospect.has_work()
        ]
        begun = set(self._catalog.names())
        beginning = [
            Job(each.name, each.text, partial(begin_study, each, terms=self._terms), submitted=True)
            for each in self._submissions.all()
            if each.name not in begun
        ]
        return joining + beginning

    def unfinished(self) -> list[tuple[str, str]]:
        """Name and file of the studies that were not over at the last look, or are paused."""
        paused = [
            (name, text)
            for name, uid, text in self._catalog.in_state(DesiredState.PAUSE)
            if self._prospect(name, uid, text).has_work()
        ]
        return paused + [
            (name, prospect.text) for name, prospect in self._open.items() if not prospect.finished
        ]

    def unknown(self, names: Collection[str]) -> list[str]:
        """Those of the names that no study has, begun or submitted."""
        known = {*self._catalog.names(), *(each.name for each in self._submissions.all())}
        return sorted(set(names) - known)

    @property
    def pace_s(self) -> float:
        """How long to wait before looking again."""
        return min([_LOOK_S, *(prospect.watch.pace_s for prospect in self._open.values())])

    @property
    def _joining(self) -> Terms:
        return replace(self._terms, begins=False)

    def _prospect(self, name: str, uid: str, text: str) -> _Prospect:
        if uid not in self._prospects:
            watch = LeaseMonitor(Drivers(self._database, name))
            self._prospects[uid] = _Prospect(Ledger(self._database, name), watch)
        prospect = self._prospects[uid]
        if prospect.text != text:
            prospect.text, prospect.finished = text, False
            try:
                prospect.slots = self._catalog.get(name).spec.slots
            except UsageError as error:  # deleted just now, or of a newer tuner
                self._say(f"cannot take part in {name}: {error}")
                prospect.finished = True
        return prospect

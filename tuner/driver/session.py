"""Runs a study from its file to its last trial: sets everything up, drives, clears up."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace

from tuner.code import digest
from tuner.datasets.prepare import prepare_apart
from tuner.datasets.store import DatasetInfo
from tuner.driver.driver_loop import Driver
from tuner.driver.orders import Pulse
from tuner.driver.packing import MeasuredPacking
from tuner.driver.plans import Planner
from tuner.driver.trainers import Trainers
from tuner.errors import DataError, SupersededError
from tuner.home import Home
from tuner.recording.journal import Journal
from tuner.recording.provenance import provenance
from tuner.recording.shipping import DriverShipping, shipping, tell_elsewhere, tell_lacking
from tuner.recovery.cleaning import clean
from tuner.recovery.clearing import close_study
from tuner.recovery.retention import BestModels, keep_checkpoints_of
from tuner.recovery.takeover import Neighbours
from tuner.search import importance
from tuner.search.trials import Trials
from tuner.spec.resume import settled
from tuner.spec.study_spec import AutoOrCount, StudySpec
from tuner.storage.attempts import Ledger
from tuner.storage.code_versions import CodeVersions
from tuner.storage.database import Database
from tuner.storage.drivers import DriverLease
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog, DesiredState, StudyRecord
from tuner.study.code_folders import folders_here
from tuner.study.driver_events import Notify, SetupStep, ignore
from tuner.study.driver_lock import only_driver
from tuner.study.study_file import StudyFile, check_parameters
from tuner.study.submissions import Submission
from tuner.study.summary import StudySummary, plan_of, summarise
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.spool.shipped import survey
from tuner.training.engines.backends import TITLES, check_installed
from tuner.training.plan import ModelPlan, Precision
from tuner.words import count
from tuner.workers.cluster import Cluster
from tuner.workers.pool import TrainerPool

_SHIPPING_S = 90.0
"""How long a driver waits for MLflow once the last trial has ended."""
_SHIPPING_WHEN_STOPPED_S = 5.0
"""How long one that was told to stop waits; what is left is shipped by the next run."""
_PATIENCE_S, _PATIENT_EPOCHS = 3600.0, 50
"""An epoch may take an hour and as long as so many of those that were measured, on a network that
may be the smallest of the study."""


@dataclass(frozen=True)
class Terms:
    """On what terms a driver works on a study; by default it is there for that study alone."""

    workers: AutoOrCount | None = None
    """How many trainers, whatever the study says, since that is of other machines."""
    stays: bool = True
    """Whether it waits for the trials that other drivers still have in hand, and decides what
    may change of a study."""
    begins: bool = True
    """Whether it makes a study that is not there."""
    cluster: Cluster | None = None
    """Where its trainers run, if not on this machine."""
    accepts_new_code: bool = False
    """Whether the study goes on with the code that is found, though it has changed."""


def run_study(
    file: StudyFile,
    home: Home,
    *,
    cluster: Cluster | None = None,
    accept_new_code: bool = False,
    notify: Notify = ignore,
    stopped: Callable[[], bool] = lambda: False,
) -> StudySummary:
    """Runs the study until every slot has reached its end, or until `stopped`.

    A study that exists goes on where it stopped; a finished one is only summarised. Nothing
    is recorded before the file, the data, the model and the parameters have been checked.

    Raises:
        SpecError: the file cannot be run, or differs from the study of that name.
        UsageError: the user's code has changed since, and new code is not accepted.
        RefusedError: another driver on this machine is at work on it.
        DataError: the data set cannot be had or used.
        ModelError: the model cannot be built.
        UnavailableError: the database, a device or a trainer is missing.
    """
    with open_database(home) as database:
        terms = Terms(cluster=cluster, accepts_new_code=accept_new_code)
        stay = _Stay(file, home, database, terms, notify, stopped)
        file.check()
        clean(home, Catalog(database))
        with only_driver(home, file.spec.name):
            return stay.run()


def join_study(
    name: str,
    home: Home,
    *,
    terms: Terms,
    notify: Notify = ignore,
    stopped: Callable[[], bool] = lambda: False,
) -> StudySummary:
    """Helps with a study that others began, until it has no trial to give, or until `stopped`.

    What its first driver decided stays as it is: its file, its budget, where its code lies,
    whether it is to go on.

    Raises:
        UsageError: there is no such study.
        TunerError: as `run_study`.
    """
    with open_database(home) as database:
        record = Catalog(database).get(name)
        file = StudyFile(
            record.spec, record.source, folders_here(record.code_path), record.overrides
        )
        with only_driver(home, name):
            return _Stay(file, home, database, terms, notify, stopped).drive()


def begin_study(
    submission: Submission,
    home: Home,
    *,
    terms: Terms,
    notify: Notify = ignore,
    stopped: Callable[[], bool] = lambda: False,
) -> StudySummary:
    """Begins a study that was submitted, or joins it where another driver was quicker.

    Raises:
        TunerError: as `run_study`; a `RefusedError` also when it was withdrawn meanwhile.
    """
    file = StudyFile(
        submission.read(),
        submission.source,
        folders_here(submission.code_path),
        submission.overrides,
    )
    file.check()
    with open_database(home) as database, only_driver(home, submission.name):
        return _Stay(file, home, database, terms, notify, stopped, answers=submission).drive()


class _Stay:
    """One driver's stay in one study."""

    def __init__(
        self,
        file: StudyFile,
        home: Home,
        database: Database,
        terms: Terms,
        notify: Notify,
        stopped: Callable[[], bool],
        *,
        answers: Submission | None = None,
    ) -> None:
        self._file = file
        self._terms = terms
        self._answers = answers
        self._spec = file.spec
        self._home = home
        self._database = database
        self._catalog = Catalog(database)
        self._code = CodeVersions(database, self._spec.name)
        self._notify = notify
        self._stopped = stopped
        self._tracking = TrackingSettings.from_environment(home.root)
        self._pulse: Pulse | None = None
        self._wakes = False
        """Whether the study was paused or stopped, and goes on once nothing refuses it."""

    def run(self) -> StudySummary:
        """Brings the study to its end, and says what of it this home cannot ship."""
        summary = self.finished() or self.drive()
        if summary.done:
            tell_elsewhere(self._home, self._database, summary.study, self._say)
        return summary

    def finished(self) -> StudySummary | None:
        """The summary of a study that has nothing left to do but, maybe, to be shipped."""
        if self._catalog.find(self._spec.name) is None:
            return None
        record = self._catalog.check_resumable(self._spec, self._file.source)
        self._spec = settled(record.spec, self._spec)
        trials, ledger = self._tables(record)
        self._keep_budget(record, ledger)
        self._wakes = record.desired_state is not DesiredState.RUN
        if not summarise(self._spec, trials, ledger).done:
            return None
        record = self._resume()
        self._wake(record)
        with closing(self._journal(record)) as journal:
            neighbours = self._neighbours(record.name, journal)
            neighbours.clear_up(ledger)
            someone_died = neighbours.settle(self._stopped)
            BestModels(self._home, record.spec, ledger, journal, trials.all())
            summary = summarise(record.spec, trials, ledger)
            if someone_died:
                journal.study_closed(summary)
            close_study(self._home, self._database, journal, ledger, summary)
        found = survey(self._home.devoted(record.name))
        if found.pending:
            with self._shipping(record, ledger):
                pass
        else:
            tell_lacking(found, self._say)
        return summarise(record.spec, trials, ledger)

    def _keep_budget(self, record: StudyRecord, ledger: Ledger) -> None:
        """A slot that has been tried belongs to the study for good: its budget stays."""
        if max(ledger.latest(), default=-1) >= self._spec.slots:
            self._say(
                f"{record.name} has begun more than {count(self._spec.trials, 'trial')}; "
                f"going on with its budget of {record.spec.trials}"
            )
            self._spec = self._spec.model_copy(update={"trials": record.spec.trials})

    def drive(self) -> StudySummary:
        """Starts trainers, checks what only they can check, and runs the study on them."""
        check_installed(self._spec.backend)
        with ExitStack() as stack:
            workers = self._terms.workers or self._spec.workers
            trainers = Trainers(
                self._home, self._spec, workers, self._terms.cluster, stack, self._say
            )
            dataset = self._prepare()
            self._check_data(dataset)
            planner = self._plan_with(trainers.pool, dataset)
            planner, packed = trainers.settle(planner, self._epochs_left())
            record = self._open(planner)
            planner = replace(planner, spec=record.spec, precision=_precision(record.spec))
            while True:
                try:
                    return self._run(record, planner, packed)
                except SupersededError as error:
                    self._say(f"{error}; joining them")

    def _epochs_left(self) -> int:
        record = self._catalog.find(self._spec.name)
        if record is None:
            return self._spec.slots * self._spec.epochs
        trials, ledger = self._tables(record)
        counts = summarise(self._spec, trials, ledger).counts
        return (counts["running"] + counts["waiting"]) * self._spec.epochs

    def _prepare(self) -> DatasetInfo:
        reference = self._spec.dataset
        self._say(f"preparing the data set {reference.name}")
        info = prepare_apart(reference, self._home.datasets, self._file.code_path, self._say)
        self._say(
            f"{info.name}: {info.train_count:,} training and {info.test_count:,} test images, "
            f"{len(info.classes)} classes, from {info.source}"
        )
        return info

    def _plan_with(self, pool: TrainerPool, dataset: DatasetInfo) -> Planner:
        backend = TITLES[self._spec.backend]
        self._say(f"loading {backend} and the model {self._spec.model} in the trainers")
        code_path = self._file.code_path
        model = ModelPlan(name=self._spec.model, code_path=code_path)
        if self._spec.domains:
            importance.load()  # while the trainers load theirs
        described = pool.describe(model, self._spec.dataset.name)
        check_parameters(self._spec, self._file.source, described.hyperparameters)
        if not self._terms.accepts_new_code:
            self._code.check(described.code)
        precision = _precision(self._spec)
        return Planner(self._home, self._spec, code_path, dataset, described, precision)

    def _check_data(self, dataset: DatasetInfo) -> None:
        record = self._catalog.find(self._spec.name)
        if record is not None and record.dataset.digest != dataset.digest:
            raise DataError(
                f"study {record.name!r}: was started on other data (digest "
                f"{record.dataset.digest[:12]}, now {dataset.digest[:12]}); give it another --name"
            )

    def _open(self, planner: Planner) -> StudyRecord:
        """The study's record, which says what the first of its drivers has measured."""
        file, answers = self._file, self._answers
        measured = self._spec.model_copy(update={"precision": planner.precision})
        if self._terms.begins and self._catalog.find(self._spec.name) is None:
            path, at_ms = file.code_path, None
            if answers is not None:
                path, at_ms = answers.code_path, answers.submitted_ms
            rounds = planner.measured.rounds if planner.measured else {}
            self._catalog.create(
                measured,
                file.source,
                path,
                planner.dataset,
                at_ms,
                file.overrides,
                epoch_s=rounds,
            )
            self._check_data(planner.dataset)  # another driver may have been quicker
        if self._terms.stays:
            record = self._resume()
        else:
            record = self._catalog.check_resumable(self._spec, file.source)
        self._settle_code(record, planner.described.code)
        self._wake(record)
        return record

    def _wake(self, record: StudyRecord) -> None:
        """Only if it slept at the start: what was asked of it since then holds."""
        if self._wakes:
            self._catalog.set_desired_state(record.name, DesiredState.RUN)

    def _settle_code(self, record: StudyRecord, code: Mapping[str, str]) -> None:
        """The code comes after the study's row; trials that are open begin again with new code."""
        rows = Trials(self._database, record.spec).all()
        again = [str(row.number) for row in rows if not row.state.is_finished()]
        accepts = self._terms.accepts_new_code
        if self._code.settle(code, trials=len(rows), accepts=accepts):
            begun = f"; begun again with it: trial {', '.join(again)}" if again else ""
            self._say(f"{record.name} goes on with new code from trial {len(rows)} on{begun}")

    def _resume(self) -> StudyRecord:
        file = self._file
        return self._catalog.resume(self._spec, file.source, file.code_path, file.overrides)

    def _run(self, record: StudyRecord, planner: Planner, packed: MeasuredPacking) -> StudySummary:
        with ExitStack() as stack:
            stack.enter_context(self._database.retrying(self._stopped, self._say))
            membership = DriverLease(
                self._database, record.name, self._home.uid, self._spec.lease_s
            )
            stack.enter_context(membership)
            trials, ledger = self._tables(record, membership.uid)
            # Left after the journal, whose end may write what a full disk had refused.
            shipment = stack.enter_context(self._shipping(record, ledger))
            journal = stack.enter_context(closing(self._journal(record, membership.leads)))
            neighbours = self._neighbours(record.name, journal, but=membership.uid)
            neighbours.clear_up(ledger)
            code = digest(planner.described.code)
            keep_checkpoints_of(self._home, record.name, code, only=len(self._code.all()) == 1)
            journal.study_opened()
            driver = Driver(
                planner=planner,
                trials=trials,
                ledger=ledger,
                pool=packed.pool,
                journal=journal,
                notify=self._notify,
                epoch_limit_s=self._epoch_limit_s(packed),
                stays=self._terms.stays,
            )
            epochs, trainers = self._spec.epochs, packed.pool.size
            self._notify(plan_of(driver.summary(), epochs, trainers, packed.epoch_s))
            self._pulse = Pulse(
                self._catalog,
                record.name,
                shipment,
                self._stopped,
                look_around=neighbours.look,
                say=self._say,
                trials=self._spec.trials,
                code=code,
            )
            if not self._terms.stays and not ledger.has_free(self._spec.slots):
                neighbours.settle(self._stopped)  # one that died may have to be given up first
            summary = None
            try:
                summary = driver.run(self._pulse, self._pulse.paused, self._pulse.trials)
                neighbours.settle(lambda: self._stopped() or not summary.done)
            finally:
                if membership.leave():
                    journal.study_closed(summary)
        return driver.summary()

    def _neighbours(self, study: str, journal: Journal, but: str = "") -> Neighbours:
        return Neighbours(self._home, self._database, study, journal, self._say, but)

    def _epoch_limit_s(self, packed: MeasuredPacking) -> float:
        stated = self._spec.epoch_limit_s
        return _PATIENCE_S + _PATIENT_EPOCHS * packed.epoch_s if stated == "auto" else stated

    def _tables(self, record: StudyRecord, driver: str | None = None) -> tuple[Trials, Ledger]:
        trials = Trials(self._database, record.spec, driver)
        return trials, Ledger(self._database, record.name, driver)

    def _journal(self, record: StudyRecord, leads: Callable[[], bool] = lambda: True) -> Journal:
        code = provenance(self._file.code_path[0])
        versions = self._code.all()
        return Journal(self._home, record, code, versions, leads=leads, say=self._say)

    @contextmanager
    def _shipping(self, record: StudyRecord, ledger: Ledger) -> Iterator[DriverShipping]:
        self._home.devote(record.name, record.uid)
        folder = self._home.devoted(record.name)
        with shipping(folder, self._tracking, ledger, self._patience_s, self._say) as shipment:
            yield shipment

    def _patience_s(self) -> float:
        asked = self._pulse is not None and self._pulse.stopping
        return _SHIPPING_WHEN_STOPPED_S if asked or self._stopped() else _SHIPPING_S

    def _say(self, text: str) -> None:
        self._notify(SetupStep(text))


def _precision(spec: StudySpec) -> Precision:
    """As the study has it, float32 where that is open."""
    return "float32" if spec.precision == "auto" else spec.precision

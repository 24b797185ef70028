"""Runs, joins or begins a study: checks it, starts trainers, and opens a driver's session."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

from tuner.datasets.prepare import prepare_apart
from tuner.datasets.store import DatasetInfo
from tuner.driver.packing import MeasuredPacking
from tuner.driver.plans import Planner, precision_of
from tuner.driver.session import DriverSession, shipping_patience
from tuner.driver.trainers import Trainers
from tuner.errors import DataError, SupersededError
from tuner.home import Home
from tuner.recording.journal import Journal
from tuner.recording.provenance import provenance
from tuner.recording.shipping import report_refused_parts, report_trials_elsewhere, shipping
from tuner.recovery.home_cleanup import clean_home
from tuner.recovery.retention import BestModels
from tuner.recovery.takeover import PeerDrivers, close_study
from tuner.search import importance
from tuner.search.trials import Trials
from tuner.spec.resume import with_stored_choices
from tuner.spec.study_spec import AutoOrCount, StudySpec
from tuner.storage.attempts import Ledger
from tuner.storage.code_versions import CodeVersions
from tuner.storage.database import Database
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog, DesiredState, StudyRecord
from tuner.study.code_folders import folders_here
from tuner.study.driver_events import Notify, SetupStep, ignore
from tuner.study.driver_lock import only_driver
from tuner.study.study_file import StudyFile, check_parameters
from tuner.study.submissions import Submission
from tuner.study.summary import StudySummary, summarise
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.spool.shipped import survey
from tuner.training.engines.backends import TITLES, check_installed
from tuner.training.plan import ModelPlan
from tuner.words import count
from tuner.workers.cluster import Cluster
from tuner.workers.pool import TrainerPool

_LEAST_EPOCH_LIMIT_S, _EPOCHS_IN_LIMIT = 3600.0, 50
"""`epoch_limit_s: auto` is an hour plus 50 measured epochs. The measured network may be the
smallest of the study."""


@dataclass(frozen=True)
class Terms:
    """How a driver works on a study. The defaults are those of `tuner run-study`."""

    workers: AutoOrCount | None = None
    """Number of trainers; None takes the study file's."""
    stays: bool = True
    """Whether the driver waits for the trials of other drivers, and may change what a study
    file may change of an existing study."""
    begins: bool = True
    """Whether the driver creates a study that does not exist."""
    cluster: Cluster | None = None
    """Where the trainers run; None is this machine."""
    accepts_new_code: bool = False
    """Whether the study continues with the user's present code after that has changed."""


def run_study(
    file: StudyFile,
    home: Home,
    *,
    cluster: Cluster | None = None,
    accept_new_code: bool = False,
    notify: Notify = ignore,
    stopped: Callable[[], bool] = lambda: False,
) -> StudySummary:
    """Runs the study until every trial has ended, or until `stopped`.

    An existing study resumes where it left off; a finished one is only summarised. Nothing is
    recorded before the file, the data, the model and the parameters have been checked.

    Raises:
        SpecError: the file cannot be run, or differs from the study of that name.
        UsageError: the user's code has changed since, and new code is not accepted.
        RefusedError: another driver on this machine works on the study.
        DataError: the data set is not available or not usable.
        ModelError: the model cannot be built.
        UnavailableError: the database, a device or a trainer is missing.
    """
    with open_database(home) as database:
        terms = Terms(cluster=cluster, accepts_new_code=accept_new_code)
        run = _Run(file, home, database, terms, notify, stopped)
        file.check()
        clean_home(home, Catalog(database))
        with only_driver(home, file.spec.name):
            return run.run()


def join_study(
    name: str,
    home: Home,
    *,
    terms: Terms,
    notify: Notify = ignore,
    stopped: Callable[[], bool] = lambda: False,
) -> StudySummary:
    """Runs trials of an existing study until none is free, or until `stopped`.

    Changes nothing of the study: not its file, its budget, its code path or its desired state.

    Raises:
        UsageError: there is no such study.
        TunerError: as `run_study`.
    """
    with open_database(home) as database:
        record = Catalog(database).get(name)
        file = StudyFile.stored(record.spec, record)
        with only_driver(home, name):
            return _Run(file, home, database, terms, notify, stopped).drive()


def begin_study(
    submission: Submission,
    home: Home,
    *,
    terms: Terms,
    notify: Notify = ignore,
    stopped: Callable[[], bool] = lambda: False,
) -> StudySummary:
    """Begins a submitted study, or joins it when another driver was quicker.

    Raises:
        TunerError: as `run_study`; a `RefusedError` also when the submission was withdrawn.
    """
    file = StudyFile(
        submission.read(),
        submission.source,
        folders_here(submission.code_path),
        submission.overrides,
    )
    file.check()
    with open_database(home) as database, only_driver(home, submission.name):
        return _Run(file, home, database, terms, notify, stopped, submission=submission).drive()


class _Run:
    """One run of a study by one driver."""

    def __init__(
        self,
        file: StudyFile,
        home: Home,
        database: Database,
        terms: Terms,
        notify: Notify,
        stopped: Callable[[], bool],
        *,
        submission: Submission | None = None,
    ) -> None:
        self._file = file
        self._terms = terms
        self._submission = submission
        self._spec = file.spec
        self._home = home
        self._database = database
        self._catalog = Catalog(database)
        self._code = CodeVersions(database, self._spec.name)
        self._notify = notify
        self._stopped = stopped
        self._tracking = TrackingSettings.from_environment(home.root)
        self._resumes = False
        """Whether the study was paused or stopped, and is to run once every check has passed."""

    def run(self) -> StudySummary:
        """Runs the study to its end, and names the trials that this home cannot ship."""
        summary = self._finished() or self.drive()
        if summary.done:
            report_trials_elsewhere(self._home, self._database, summary.study, self._say)
        return summary

    def _finished(self) -> StudySummary | None:
        """Closes and ships a study that has no trial left; None for any other study."""
        if self._catalog.find(self._spec.name) is None:
            self._file.check_new()
            return None
        record = self._catalog.check_resumable(self._spec, self._file.source)
        self._spec = with_stored_choices(record.spec, self._spec)
        trials, ledger = self._tables(record)
        self._keep_budget(record, ledger)
        self._resumes = record.desired_state is not DesiredState.RUN
        if not summarise(self._spec, trials, ledger).done:
            return None
        record = self._resume()
        self._set_running(record)
        self._close(record, trials, ledger)
        self._ship(record, ledger)
        return summarise(record.spec, trials, ledger)

    def _close(self, record: StudyRecord, trials: Trials, ledger: Ledger) -> None:
        """Closes what dead drivers left open, and the study."""
        code = provenance(self._file.code_path[0])
        journal = Journal(
            self._home, self._database, record, code, trials, self._code.all(), say=self._say
        )
        with closing(journal):
            peers = PeerDrivers(self._home, self._database, record.name, journal, self._say)
            peers.close_leftovers(ledger)
            any_died = peers.wait_for_each(self._stopped)
            BestModels(self._home, record.spec, ledger, journal, trials.all())
            summary = summarise(record.spec, trials, ledger)
            close_study(self._home, self._database, journal, ledger, summary, anew=any_died)

    def _ship(self, record: StudyRecord, ledger: Ledger) -> None:
        folder = self._home.current_study(record.name)
        found = survey(folder)
        if not found.pending:
            report_refused_parts(found, self._say)
            return
        patience = shipping_patience(self._catalog, record.name, self._stopped)
        with (
            self._database.retrying(self._stopped, self._say),
            shipping(folder, self._tracking, ledger, patience, self._say),
        ):
            pass

    def _keep_budget(self, record: StudyRecord, ledger: Ledger) -> None:
        """Keeps the budget when more trials than the file states have begun: they stay."""
        if max(ledger.latest(), default=-1) >= self._spec.slots:
            self._say(
                f"{record.name} has begun more than {count(self._spec.trials, 'trial')}; "
                f"keeping its budget of {record.spec.trials}"
            )
            self._spec = self._spec.model_copy(update={"trials": record.spec.trials})

    def drive(self) -> StudySummary:
        """Starts trainers, checks model and data in them, and runs the study on them.

        Raises:
            TunerError: as `run_study`.
        """
        check_installed(self._spec.backend)
        with ExitStack() as stack:
            workers = self._terms.workers or self._spec.workers
            trainers = Trainers(
                self._home, self._spec, workers, self._terms.cluster, stack, self._say
            )
            dataset = self._prepare()
            self._check_data(dataset)
            planner = self._plan_with(trainers.pool, dataset)
            planner, packed = trainers.decide(planner, self._epochs_left())
            record = self._open(planner)
            planner = replace(planner, spec=record.spec, precision=precision_of(record.spec))
            session = self._session(record, planner, packed)
            while True:
                try:
                    return session.run()
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
        precision = precision_of(self._spec)
        return Planner(self._home, self._spec, code_path, dataset, described, precision)

    def _check_data(self, dataset: DatasetInfo) -> None:
        record = self._catalog.find(self._spec.name)
        if record is not None and record.dataset.digest != dataset.digest:
            raise DataError(
                f"study {record.name!r}: was started on other data (digest "
                f"{record.dataset.digest[:12]}, now {dataset.digest[:12]}); give it another --name"
            )

    def _open(self, planner: Planner) -> StudyRecord:
        """The study's record, created if need be, with what its first driver has measured."""
        file, submission = self._file, self._submission
        measured = self._spec.model_copy(update={"precision": planner.precision})
        if self._terms.begins and self._catalog.find(self._spec.name) is None:
            path, at_ms = file.code_path, None
            if submission is not None:
                path, at_ms = submission.code_path, submission.submitted_ms
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
        self._set_running(record)
        return record

    def _set_running(self, record: StudyRecord) -> None:
        """Ends a pause or stop that was there at the start. Orders given since then hold."""
        if self._resumes:
            self._catalog.set_desired_state(record.name, DesiredState.RUN)

    def _settle_code(self, record: StudyRecord, code: Mapping[str, str]) -> None:
        """Stores the user's code. With new code, unfinished trials begin again from epoch 1."""
        rows = Trials(self._database, record.spec).all()
        again = [str(row.number) for row in rows if not row.state.is_finished()]
        accepts = self._terms.accepts_new_code
        if self._code.update(code, trials=len(rows), accepts=accepts):
            begun = f"; begun again with it: trial {', '.join(again)}" if again else ""
            self._say(f"{record.name} uses new code from trial {len(rows)} on{begun}")

    def _resume(self) -> StudyRecord:
        file = self._file
        return self._catalog.resume(self._spec, file.source, file.code_path, file.overrides)

    def _session(
        self, record: StudyRecord, planner: Planner, packed: MeasuredPacking
    ) -> DriverSession:
        return DriverSession(
            home=self._home,
            database=self._database,
            record=record,
            planner=planner,
            pool=packed.pool,
            lease_s=record.spec.lease_s,
            stopped=self._stopped,
            notify=self._notify,
            tracking=self._tracking,
            provenance=provenance(self._file.code_path[0]),
            epoch_s=packed.epoch_s,
            epoch_limit_s=_epoch_limit_s(record.spec, packed),
            stays=self._terms.stays,
        )

    def _tables(self, record: StudyRecord) -> tuple[Trials, Ledger]:
        return Trials(self._database, record.spec), Ledger(self._database, record.name)

    def _say(self, text: str) -> None:
        self._notify(SetupStep(text))


def _epoch_limit_s(spec: StudySpec, packed: MeasuredPacking) -> float:
    if spec.epoch_limit_s == "auto":
        return _LEAST_EPOCH_LIMIT_S + _EPOCHS_IN_LIMIT * packed.epoch_s
    return spec.epoch_limit_s

"""Runs a study from its file to its last trial: sets everything up, drives, clears up."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tuner.datasets.prepare import prepare_apart
from tuner.datasets.store import DatasetInfo
from tuner.errors import RefusedError
from tuner.home import Home
from tuner.models import registry
from tuner.references import is_import_path
from tuner.spec.search_space import ChoiceDomain, Scalar
from tuner.spec.study import StudySpec
from tuner.study import points, search
from tuner.study.catalog import Catalog, StudyRecord
from tuner.study.database import Database, open_database
from tuner.study.driver import Driver
from tuner.study.journal import Journal
from tuner.study.ledger import Ledger
from tuner.study.parameters import check_parameters
from tuner.study.progress import Best, Notify, Planned, Step, ignore
from tuner.study.provenance import provenance
from tuner.study.recovery import recover
from tuner.study.summary import StudySummary, summarise
from tuner.study.trials import Trials
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.shipping import Shipper
from tuner.training.plan import ModelPlan
from tuner.workers.devices import layout
from tuner.workers.local import LocalPool
from tuner.workers.messages import Described
from tuner.workers.pool import TrainerPool

BACKEND = "tensorflow"
_SHIPPING_S = 90.0
"""How long a driver waits for MLflow once the last trial has ended."""
_ASK_DATABASE_S = 1.0
"""How often a driver looks whether someone asked for its study to stop."""


@dataclass(frozen=True)
class StudyFile:
    """A validated study and where it came from."""

    spec: StudySpec
    source: str
    """The file's name, for messages."""
    folder: Path
    """Where the user's own modules are looked for first."""

    @property
    def code_path(self) -> tuple[Path, ...]:
        """The folders that modules named in the study are imported from."""
        return tuple(dict.fromkeys((self.folder.absolute(), Path.cwd())))


def run_study(
    file: StudyFile,
    home: Home,
    *,
    notify: Notify = ignore,
    stopped: Callable[[], bool] = lambda: False,
) -> StudySummary:
    """Runs the study until every slot has reached its end, or until `stopped`.

    A study that exists goes on where it stopped; a finished one is only summarised.

    Raises:
        SpecError: the file cannot be run, or differs from the study of that name.
        DataError: the data set cannot be had or used.
        ModelError: the model cannot be built.
        UnavailableError: the database, a device or a trainer is missing.
    """
    with closing(open_database(home)) as database:
        _check_without_trainers(file)
        finished = _finished(file, database)
        if finished is not None:
            return finished
        return _Run(file, home, database, notify).until(stopped)


def _check_without_trainers(file: StudyFile) -> None:
    """Everything that can be refused at once, before any process starts."""
    search.sampler(file.spec, seed=0)
    if not is_import_path(file.spec.model):
        check_parameters(file.spec, file.source, registry.hyperparameters(file.spec.model))


def _finished(file: StudyFile, database: Database) -> StudySummary | None:
    """The summary of a study that has nothing left to do."""
    catalog = Catalog(database)
    if catalog.find(file.spec.name) is None:
        return None
    record = catalog.resume(file.spec, file.source)
    summary = summarise(
        record.spec, Trials(database.storage, record.spec), Ledger(database, record.name)
    )
    return summary if summary.done else None


class _Run:
    """One driver's stay in one study."""

    def __init__(self, file: StudyFile, home: Home, database: Database, notify: Notify) -> None:
        self._file = file
        self._home = home
        self._database = database
        self._catalog = Catalog(database)
        self._notify = notify
        self._tracking = TrackingSettings.from_environment(home.root)

    def until(self, stopped: Callable[[], bool]) -> StudySummary:
        spec = self._file.spec
        devices = layout(spec.workers, spec.slots)
        self._say(f"starting {len(devices)} trainer{'s' * (len(devices) > 1)}")
        with closing(LocalPool(devices, self._home.trainer_logs(spec.name))) as pool:
            dataset = self._prepare()
            self._say(f"loading TensorFlow and the model {spec.model} in the trainers")
            described = pool.describe(
                ModelPlan(name=spec.model, params={}, code_path=self._file.code_path)
            )
            check_parameters(spec, self._file.source, described.hyperparameters)
            record = self._open(dataset)
            return self._drive(record, pool, described, stopped)

    def _prepare(self) -> DatasetInfo:
        reference = self._file.spec.dataset
        self._say(f"preparing the data set {reference.name}")
        info = prepare_apart(reference, self._home.datasets, self._file.code_path, self._say)
        self._say(
            f"{info.name}: {info.train_count:,} training and {info.test_count:,} test images, "
            f"{len(info.classes)} classes, from {info.source}"
        )
        return info

    def _open(self, dataset: DatasetInfo) -> StudyRecord:
        file = self._file
        record = self._catalog.find(file.spec.name)
        if record is None:
            return self._catalog.create(file.spec, file.source, file.code_path, dataset, BACKEND)
        if record.dataset.digest != dataset.digest:
            raise RefusedError(
                f"study {record.name!r}: was started on other data (digest "
                f"{record.dataset.digest[:12]}, now {dataset.digest[:12]}); give it another --name"
            )
        return self._catalog.resume(file.spec, file.source)

    def _drive(
        self,
        record: StudyRecord,
        pool: TrainerPool,
        described: Described,
        stopped: Callable[[], bool],
    ) -> StudySummary:
        trials = Trials(self._database.storage, record.spec)
        ledger = Ledger(self._database, record.name)
        journal = Journal(self._home, record, provenance(self._file.folder))
        handed_back = recover(self._home, record.name, trials, ledger, journal)
        if handed_back:
            self._say(f"took back {handed_back} trials that a driver had left")
        journal.study_opened()
        with self._shipping(record, ledger) as shipper:
            driver = Driver(
                home=self._home,
                record=record,
                trials=trials,
                ledger=ledger,
                pool=pool,
                journal=journal,
                described=described,
                notify=self._notify,
            )
            self._announce(driver, pool)
            pulse = _Pulse(self._catalog, record.name, ledger, shipper, stopped)
            journal.study_closed(driver.run(pulse))
            journal.close()
        return driver.summary()

    @contextmanager
    def _shipping(self, record: StudyRecord, ledger: Ledger) -> Iterator[Shipper]:
        """A shipper beside the training, which ends when everything is in MLflow."""
        shipper = Shipper(self._home.study(record.name), self._tracking)
        try:
            yield shipper
        finally:
            self._say("shipping what is left to MLflow")
            if shipper.finish(_SHIPPING_S):
                self._say(
                    f"MLflow at {self._tracking.shown_uri} does not have everything yet: "
                    f"{shipper.pending or 'some'} events wait in {self._home.study(record.name)} "
                    f"and are shipped when the study runs again; see {shipper.log}"
                )
            _name_runs(ledger, shipper)

    def _announce(self, driver: Driver, pool: TrainerPool) -> None:
        """Says how long the study takes, from an epoch measured on its first point."""
        spec = self._file.spec
        summary = driver.summary()
        point = {**_typical_point(spec), **points.stated_point(spec, 0), **spec.fixed}
        self._say("measuring an epoch")
        self._notify(
            Planned(
                study=spec.name,
                metric=summary.metric,
                direction=summary.direction,
                slots=summary.slots,
                done=summary.slots - summary.counts["running"] - summary.counts["waiting"],
                epochs=spec.epochs,
                epoch_s=pool.epoch_seconds(driver.plan(0, 0, point)),
                trainers=pool.size,
                best=_best(summary),
            )
        )

    def _say(self, text: str) -> None:
        self._notify(Step(text))


class _Pulse:
    """Asked between events whether to stop; looks after what has to be done now and then."""

    def __init__(
        self,
        catalog: Catalog,
        study: str,
        ledger: Ledger,
        shipper: Shipper,
        stopped: Callable[[], bool],
    ) -> None:
        self._catalog = catalog
        self._study = study
        self._ledger = ledger
        self._shipper = shipper
        self._stopped = stopped
        self._asked = 0.0

    def __call__(self) -> bool:
        _name_runs(self._ledger, self._shipper)
        if self._stopped():
            return True
        if time.monotonic() - self._asked < _ASK_DATABASE_S:
            return False
        self._asked = time.monotonic()
        return self._catalog.stop_requested(self._study)


def _name_runs(ledger: Ledger, shipper: Shipper) -> None:
    for uid, run_id in shipper.poll():
        ledger.name_run(uid, run_id)


def _best(summary: StudySummary) -> Best | None:
    best = summary.best
    return None if best is None or best.value is None else Best(best.number, best.value)


def _typical_point(spec: StudySpec) -> dict[str, Scalar]:
    """A point to measure an epoch on when the study file states none: the first of each domain."""
    return {
        name: domain.choices[0] if isinstance(domain, ChoiceDomain) else domain.low
        for name, domain in spec.domains.items()
    }

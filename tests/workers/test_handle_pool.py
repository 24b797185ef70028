"""Whom a pool replaces, gives up or ends with, whatever its trainers run on."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.workers.conftest import PlanMaker, next_event
from tuner.errors import ModelError, UnavailableError
from tuner.training.plan import ModelPlan, TrainerInfo
from tuner.workers.handle_pool import HandlePool, Placement
from tuner.workers.messages import Answer, Ready, Request
from tuner.workers.pool import Ending, GivenUp, Lost, TrainerReady

LOST = Ending("its machine is gone", machine_lost=True)
BROKEN = Ending("no engine")
READY = TrainerInfo(
    host="here", pid=1, assigned="cpu:0", device="cpu:0", backend="tensorflow", versions={}
)


class Trainer:
    """One that may get ready, and ends when it is told to, or at once."""

    def __init__(self, ending: Ending, *, ready: bool, stays: bool, deaf: bool = False) -> None:
        self._ending = ending
        self._ready = ready
        self._deaf = deaf
        self._told = threading.Event()
        if not stays:
            self._told.set()

    def send(self, request: Request) -> None:
        """Ends of its first request, unless it hears none."""
        del request
        if not self._deaf:
            self._told.set()

    def answers(self) -> Iterator[Answer]:
        if self._ready:
            yield Ready(info=READY)
        self._told.wait()

    def end(self) -> None:
        self._told.set()

    def kill(self, reason: str) -> None:
        self._ending = Ending(reason)
        self._told.set()

    def wait(self, timeout_s: float) -> None:
        self._told.wait(timeout_s)

    def ending(self, trial_log: Path | None) -> Ending:
        del trial_log
        return self._ending


class Place:
    """A placement whose trainers are listed in the order in which they start."""

    def __init__(self, *trainers: Trainer) -> None:
        self._trainers = list(trainers)
        self.placement = Placement("a device", self._start)

    def _start(self) -> Trainer:
        return self._trainers.pop(0)

    @property
    def left(self) -> int:
        return len(self._trainers)


def good() -> Trainer:
    return Trainer(LOST, ready=True, stays=True)


def doomed(ending: Ending) -> Trainer:
    return Trainer(ending, ready=False, stays=False)


def test_a_machine_that_is_lost_before_its_trainer_was_ready_costs_nothing(
    make_plan: PlanMaker,
) -> None:
    place = Place(doomed(LOST), doomed(LOST), good(), good())
    with closing(HandlePool([place.placement], probes=1)) as pool:
        assert isinstance(next_event(pool), TrainerReady)
        plan = make_plan()
        pool.submit(plan)
        assert next_event(pool) == Lost(plan, "its machine is gone")
        assert isinstance(next_event(pool), TrainerReady)
        assert pool.idle == 1


def test_machines_that_are_lost_again_and_again_are_an_end() -> None:
    place = Place(*(doomed(LOST) for _ in range(9)))
    with closing(HandlePool([place.placement], probes=1)) as pool:
        with pytest.raises(UnavailableError, match="on a device did not start: its machine is go"):
            next_event(pool)
        assert place.left == 6


def test_a_device_on_which_nothing_starts_is_given_up_where_others_work(
    make_plan: PlanMaker,
) -> None:
    broken, working = Place(good(), doomed(BROKEN)), Place(good())
    with closing(HandlePool([broken.placement, working.placement], probes=2)) as pool:
        first = [next_event(pool), next_event(pool)]
        assert all(isinstance(event, TrainerReady) for event in first)
        plan = make_plan()
        pool.submit(plan)
        assert next_event(pool) == Lost(plan, "its machine is gone")
        assert next_event(pool) == GivenUp("a trainer on a device did not start: no engine")
        assert (pool.size, pool.idle) == (1, 1)


def test_a_trainer_that_answers_no_question_is_ended_and_the_models_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tuner.workers.handle_pool._DESCRIBING_S", 0.1)
    place = Place(Trainer(LOST, ready=True, stays=True, deaf=True), good())
    with (
        closing(HandlePool([place.placement], probes=1)) as pool,
        pytest.raises(ModelError, match=r"built or timed the model: that took longer than 0.1 s"),
    ):
        pool.describe(ModelPlan(name="dense"), "digits")


def test_a_device_on_which_nothing_ever_starts_is_refused() -> None:
    place = Place(doomed(BROKEN))
    with (
        closing(HandlePool([place.placement], probes=1)) as pool,
        pytest.raises(UnavailableError, match="a trainer on a device did not start: no engine"),
    ):
        next_event(pool)

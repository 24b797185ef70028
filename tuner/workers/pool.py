"""The protocols of a pool of trainers and of the handle of one trainer, and the pool's events.

A pool owns trainers and their devices. The driver submits a plan when a trainer is free, and
receives one stream of events, in order for each plan.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from tuner.training.plan import (
    EpochEnded,
    ModelPlan,
    Precision,
    SystemSampled,
    TrainerInfo,
    TrialPlan,
    TrialResult,
)
from tuner.training.timing import EpochTimes
from tuner.workers.messages import Answer, Described, Request


@dataclass(frozen=True)
class Ending:
    """How a trainer ended."""

    reason: str
    machine_lost: bool = False
    """Whether the trainer was lost with its machine, so through no fault of its own."""


class TrainerHandle(Protocol):
    """A trainer that was started and may have ended since."""

    def send(self, request: Request) -> None:
        """Sends a request, in order; never blocks, and does nothing if the trainer is gone."""
        ...

    def answers(self) -> Iterator[Answer]:
        """Yields its answers, in order, until it ends.

        Files that a result names are on this machine by then.
        """
        ...

    def end(self) -> None:
        """Tells the trainer to end, busy or not."""
        ...

    def kill(self, reason: str) -> None:
        """Ends the trainer at once, even if it hangs; `reason` becomes the reason of its end."""
        ...

    def wait(self, timeout_s: float) -> None:
        """Waits until the trainer is gone, and kills it after `timeout_s`."""
        ...

    def ending(self, trial_log: Path | None) -> Ending:
        """How the trainer ended, with the last lines of `trial_log` if there is one.

        For use after the last answer.
        """
        ...


@dataclass(frozen=True)
class TrainerReady:
    """A trainer can take a plan."""

    trainer: TrainerInfo


@dataclass(frozen=True)
class Reported:
    """A plan's trainer reports an epoch, or a measurement of its machine."""

    plan: TrialPlan
    event: EpochEnded | SystemSampled


@dataclass(frozen=True)
class Finished:
    """A plan ended with a result; no further event of it follows."""

    plan: TrialPlan
    result: TrialResult


@dataclass(frozen=True)
class Lost:
    """The trainer of a plan died; no further event of the plan follows."""

    plan: TrialPlan
    reason: str


@dataclass(frozen=True)
class GivenUp:
    """A trainer does not start any more in its place; the others go on."""

    reason: str


PoolEvent = TrainerReady | Reported | Finished | Lost | GivenUp


NOTHING_KNOWN: Mapping[str, Precision] = MappingProxyType({})


class TrainerPool(Protocol):
    """Trains plans, each on its own device."""

    @property
    def idle(self) -> int:
        """The number of plans that can be submitted now."""
        ...

    @property
    def size(self) -> int:
        """The number of plans that can train at the same time."""
        ...

    def describe(self, model: ModelPlan, dataset: str) -> Described:
        """Describes the model function. Waits for a trainer; for use before the first plan.

        Raises:
            ModelError: there is no such function, or it is no model function.
            UnavailableError: no trainer could start, or one died while it answered.
        """
        ...

    def epoch_times(
        self,
        plan: TrialPlan,
        precisions: Sequence[Precision],
        known: Mapping[str, Precision] = NOTHING_KNOWN,
    ) -> EpochTimes:
        """Measures how long an epoch of `plan` takes while every trainer is busy.

        Measures those of `precisions` that every device supports natively, or all if there are
        none; only the `known` one for a network whose architecture has one. Waits until every
        trainer has started.

        Raises:
            DataError: the plan's rows cannot be split as it says.
            ModelError: the plan's model cannot be built.
            UnavailableError: no trainer could start, or one died while it measured.
        """
        ...

    def submit(self, plan: TrialPlan) -> TrainerInfo:
        """Gives the plan to an idle trainer, which is returned; never blocks."""
        ...

    def proceed(self, plan: TrialPlan, epoch: int) -> None:
        """Answers an epoch's report: the plan goes on. Without an answer it waits briefly."""
        ...

    def prune(self, plan: TrialPlan) -> None:
        """Asks the plan to end early; its result follows as an event, unless it came before."""
        ...

    def kill(self, plan: TrialPlan, reason: str) -> None:
        """Ends the plan's trainer at once; `Lost` follows, unless the plan has ended before."""
        ...

    def next_event(self, timeout_s: float) -> PoolEvent | None:
        """The next event, or None after `timeout_s`.

        Raises:
            UnavailableError: no trainer starts here.
            UsageError: a plan's code has changed since the first trainer imported it.
        """
        ...

    def close(self) -> None:
        """Ends every trainer, busy or not, and waits until they are gone."""
        ...

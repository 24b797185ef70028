"""The pool protocol: what a driver needs of the trainers of its plans.

A pool owns trainers and their devices. The driver submits a plan when a trainer is free and
hears of everything that happens through one stream of events, in order for each plan.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from tuner.training.plan import (
    EpochReport,
    ModelPlan,
    Precision,
    SystemSample,
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
    """Whether it went down with its machine, for which no trainer is to blame."""


class TrainerHandle(Protocol):
    """A trainer that was started, and may have ended since."""

    def send(self, request: Request) -> None:
        """Passes a request on, in order; never blocks, and a trainer that is gone hears nothing."""
        ...

    def answers(self) -> Iterator[Answer]:
        """What it says, in order, until it ends. Files that a result names are here by then."""
        ...

    def end(self) -> None:
        """Tells it to end, busy or not."""
        ...

    def kill(self, reason: str) -> None:
        """Ends it at once, hung as it may be; `reason` is why it ended then."""
        ...

    def wait(self, timeout_s: float) -> None:
        """Waits until one that was told to end is gone, and kills it then."""
        ...

    def ending(self, trial_log: Path | None) -> Ending:
        """How it ended, once its answers have; with the end of `trial_log`, if there is one."""
        ...


@dataclass(frozen=True)
class TrainerReady:
    """A trainer can take a plan."""

    trainer: TrainerInfo


@dataclass(frozen=True)
class Reported:
    """A plan's epoch ended."""

    plan: TrialPlan
    report: EpochReport


@dataclass(frozen=True)
class Measured:
    """A plan's machine was measured."""

    plan: TrialPlan
    sample: SystemSample


@dataclass(frozen=True)
class Finished:
    """A plan reached its end; nothing more is heard of it."""

    plan: TrialPlan
    result: TrialResult


@dataclass(frozen=True)
class Lost:
    """A plan's trainer died under it; nothing more is heard of it."""

    plan: TrialPlan
    reason: str


@dataclass(frozen=True)
class GivenUp:
    """No trainer starts any more where one did before; the others go on."""

    reason: str


PoolEvent = TrainerReady | Reported | Measured | Finished | Lost | GivenUp


NOTHING_KNOWN: Mapping[str, Precision] = MappingProxyType({})


class TrainerPool(Protocol):
    """Trains plans, each on a device of its own."""

    @property
    def idle(self) -> int:
        """How many plans could be submitted at this moment."""
        ...

    @property
    def size(self) -> int:
        """How many plans can train at once."""
        ...

    def describe(self, model: ModelPlan, dataset: str) -> Described:
        """What the model function takes. Waits for a trainer; for use before the first plan.

        Raises:
            ModelError: there is no such function, or it is no model function.
            UnavailableError: no trainer could start, or one died of the question.
        """
        ...

    def epoch_times(
        self,
        plan: TrialPlan,
        precisions: Sequence[Precision],
        known: Mapping[str, Precision] = NOTHING_KNOWN,
    ) -> EpochTimes:
        """How long an epoch of `plan` takes while every trainer is at work.

        In those of the precisions that every device is made for, or in all where none is; in one
        alone for a network whose architecture has a `known` one. Waits until every trainer is
        there.

        Raises:
            DataError: the plan's rows cannot be split as it says.
            ModelError: the plan's model cannot be built.
            UnavailableError: no trainer could start, or one died of the question.
        """
        ...

    def submit(self, plan: TrialPlan) -> TrainerInfo:
        """Hands the plan to an idle trainer and says to which; never blocks."""
        ...

    def proceed(self, plan: TrialPlan, epoch: int) -> None:
        """Answers the report of an epoch: the plan goes on. Without an answer it waits a moment."""
        ...

    def prune(self, plan: TrialPlan) -> None:
        """Asks the plan to end early; its result follows as an event, or has come already."""
        ...

    def kill(self, plan: TrialPlan, reason: str) -> None:
        """Ends the plan's trainer at once; `Lost` with this reason follows, or the end has come."""
        ...

    def next_event(self, timeout_s: float) -> PoolEvent | None:
        """The next event, or None when none came in time.

        Raises:
            UnavailableError: a trainer died before it was ready, so none ever will be.
            UsageError: a plan's code was changed after the first trainer had imported it.
        """
        ...

    def close(self) -> None:
        """Ends every trainer, busy or not, and waits until they are gone."""
        ...

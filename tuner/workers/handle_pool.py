"""A pool of trainers behind handles: gives them plans, returns their events, replaces the dead."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tuner.children import Refused
from tuner.errors import ModelError, UnavailableError
from tuner.training.plan import (
    EpochEnded,
    ModelPlan,
    Precision,
    SystemSampled,
    TrainerInfo,
    TrialPlan,
)
from tuner.training.timing import EpochTimes
from tuner.workers.messages import (
    OUTPUT_LOG,
    Answer,
    Describe,
    Described,
    Ended,
    Probe,
    Probed,
    Proceed,
    Prune,
    Ready,
    Request,
    Train,
)
from tuner.workers.pool import (
    NOTHING_KNOWN,
    Finished,
    GivenUp,
    Lost,
    PoolEvent,
    Reported,
    TrainerHandle,
    TrainerReady,
)

_EXIT_WAIT_S = 5.0
_DESCRIBING_S = 3600.0
"""The limit for importing a model's code, which may download something."""
_PROBING_S = 4 * 3600.0
"""The limit for measuring an epoch: compiling it and, at the worst, training a quarter of it."""
_CHECK_S = 1.0
"""The time between two checks for late answers."""
_MOST_STARTS = 3
"""The number of times in a row that a trainer may be lost with its machine before it is ready."""
_GROWTH_MB = 1000
"""The growth at which a trainer is replaced: a new process gives back what networks leak."""


@dataclass(frozen=True)
class Placement:
    """A place where one trainer at a time runs, and how to start one there."""

    name: str
    start: Callable[[], TrainerHandle]


class HandlePool:
    """Trainers that are started before they are needed and reused from plan to plan."""

    def __init__(self, placements: Sequence[Placement], *, probes: int) -> None:
        """Starts a trainer at every placement; each loads its engine while others work.

        Args:
            placements: where the trainers run.
            probes: the number of trainers that measure an epoch together: all if they share a
                machine.
        """
        self._events: queue.SimpleQueue[tuple[_Trainer, Answer | None]] = queue.SimpleQueue()
        self._held_back: list[PoolEvent] = []
        self._probes = probes
        self._trainers: list[_Trainer] = []
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            for placement in placements:
                self._trainers.append(_Trainer(placement, self._events))
            undo.pop_all()

    @property
    def idle(self) -> int:
        """The number of plans that can be submitted now."""
        return sum(trainer.idle for trainer in self._trainers)

    @property
    def size(self) -> int:
        """The number of plans that can train at the same time."""
        return len(self._trainers)

    def describe(self, model: ModelPlan, dataset: str) -> Described:
        """Describes the model function; see `TrainerPool.describe`.

        Raises:
            ModelError: there is no such function, or it is no model function.
            UnavailableError: no trainer could start, or one died while it answered.
        """
        (answer,) = self._ask(Describe(model=model, dataset=dataset), 1, _DESCRIBING_S)
        assert isinstance(answer, Described)
        return answer

    def epoch_times(
        self,
        plan: TrialPlan,
        precisions: Sequence[Precision],
        known: Mapping[str, Precision] = NOTHING_KNOWN,
    ) -> EpochTimes:
        """Measures how long an epoch of `plan` takes; see `TrainerPool.epoch_times`.

        Raises:
            DataError: the plan's rows cannot be split as it says.
            ModelError: the plan's model cannot be built.
            UnavailableError: no trainer could start, or one died while it measured.
        """
        probe = Probe(plan=plan, precisions=tuple(precisions), known=dict(known))
        answers = self._ask(probe, self._probes, _PROBING_S)
        return EpochTimes.together([each.times for each in answers if isinstance(each, Probed)])

    def submit(self, plan: TrialPlan) -> TrainerInfo:
        """Gives the plan to an idle trainer, which is returned."""
        trainer = next(trainer for trainer in self._trainers if trainer.idle)
        return trainer.train(plan)

    def proceed(self, plan: TrialPlan, epoch: int) -> None:
        """Lets the plan's next epoch begin at once."""
        self._tell(plan, Proceed(slot=plan.slot, attempt=plan.attempt, epoch=epoch))

    def prune(self, plan: TrialPlan) -> None:
        """Asks the plan to end early."""
        self._tell(plan, Prune(slot=plan.slot, attempt=plan.attempt))

    def kill(self, plan: TrialPlan, reason: str) -> None:
        """Ends the plan's trainer at once; a new one takes its place."""
        for trainer in self._trainers:
            if trainer.plan is plan:
                trainer.handle.kill(reason)

    def _tell(self, plan: TrialPlan, request: Request) -> None:
        for trainer in self._trainers:
            if trainer.plan is plan:
                trainer.handle.send(request)

    def next_event(self, timeout_s: float) -> PoolEvent | None:
        """The next event, or None after `timeout_s`.

        Raises:
            UnavailableError: no trainer starts here.
            UsageError: a plan's code has changed since the first trainer imported it.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            if self._held_back:
                return self._held_back.pop(0)
            received = self._received(deadline - time.monotonic())
            if received is None:
                return None
            if (event := self._event(*received)) is not None:
                return event

    def close(self) -> None:
        """Ends every trainer and waits until they are gone."""
        for trainer in self._trainers:
            trainer.handle.end()
        deadline = time.monotonic() + _EXIT_WAIT_S
        for trainer in self._trainers:
            trainer.handle.wait(max(0.0, deadline - time.monotonic()))

    def _ask(self, request: Describe | Probe, trainers: int, limit_s: float) -> list[Answer]:
        """Sends a question to `trainers` trainers at once, as soon as they are idle."""
        while self.idle < min(trainers, self.size):
            self._hold_back(*self._events.get())
        asked = [trainer for trainer in self._trainers if trainer.idle][:trainers]
        for trainer in asked:
            trainer.handle.send(request)
        answers = self._answers(set(asked), limit_s)
        for answer in answers:
            if isinstance(answer, Refused):
                raise answer.as_error()
        return answers

    def _answers(self, asked: set["_Trainer"], limit_s: float) -> list[Answer]:
        """The answers of the trainers that were asked, once all have answered.

        Kills those that have not answered after `limit_s`.
        """
        answers: list[Answer] = []
        failures: list[Exception] = []
        deadline = time.monotonic() + limit_s
        while asked:
            late = time.monotonic() > deadline
            for trainer in asked if late else ():
                trainer.handle.kill(
                    f"that took longer than {limit_s:g} s; make the model's function quicker"
                )
            received = self._received(_CHECK_S)
            if received is None:
                continue
            trainer, answer = received
            if trainer not in asked:
                self._hold_back(trainer, answer)
                continue
            asked.remove(trainer)
            if answer is None:
                failures.append(self._death(trainer, late=late))
            else:
                answers.append(answer)
        if failures:
            raise failures[-1]
        return answers

    def _death(self, trainer: "_Trainer", *, late: bool) -> Exception:
        """The error for a trainer that died while it answered; a hang is the model code's fault."""
        error = ModelError if late else UnavailableError
        return error(f"a trainer ended while it built or timed the model: {self._restart(trainer)}")

    def _received(self, timeout_s: float) -> "tuple[_Trainer, Answer | None] | None":
        """A trainer and its answer, or None for the trainer's end; nothing after `timeout_s`."""
        with contextlib.suppress(queue.Empty):
            return self._events.get(timeout=max(0.0, timeout_s))
        return None

    def _hold_back(self, trainer: "_Trainer", answer: Answer | None) -> None:
        event = self._event(trainer, answer)
        if event is not None:
            self._held_back.append(event)

    def _event(self, trainer: "_Trainer", answer: Answer | None) -> PoolEvent | None:
        plan = trainer.plan
        match answer:
            case Ready(info=info):
                trainer.info = info
                trainer.has_been_ready = True
                trainer.starts = 0
                return TrainerReady(info)
            case EpochEnded() | SystemSampled() if plan:
                return Reported(plan, answer)
            case Ended(result=result) if plan:
                trainer.plan = None
                if trainer.has_outgrown(result.peak_memory_mb):
                    trainer.retire()
                return Finished(plan, result)
            case Refused() if plan:
                trainer.plan = None
                raise answer.as_error()
            case None:
                reason = self._restart(trainer)
                return Lost(plan, reason) if plan else None
        raise AssertionError(f"a trainer answered {answer!r} without a plan")

    def _restart(self, trainer: "_Trainer") -> str:
        """Replaces a dead trainer and returns the reason of its end.

        A trainer that died before it was ready is not replaced: the next one would die too. Its
        placement is given up. The others go on if any of them has ever been ready.
        """
        log = trainer.plan.folder / OUTPUT_LOG if trainer.plan else None
        ending = trainer.handle.ending(log)
        if trainer.info is not None or (ending.machine_lost and trainer.starts < _MOST_STARTS):
            trainer.start()
            return ending.reason
        self._trainers.remove(trainer)
        reason = f"a trainer on {trainer.placement.name} did not start: {ending.reason}"
        if not any(each.has_been_ready for each in self._trainers):
            raise UnavailableError(reason)
        self._held_back.append(GivenUp(reason))
        return ending.reason


class _Trainer:
    """The trainer at one placement, and its plan."""

    def __init__(
        self, placement: Placement, events: "queue.SimpleQueue[tuple[_Trainer, Answer | None]]"
    ) -> None:
        self.placement = placement
        self.has_been_ready = False
        self.starts = 0
        """The number of starts since the trainer was last ready."""
        self._events = events
        self.start()

    @property
    def idle(self) -> bool:
        return self.info is not None and self.plan is None and not self._retired

    def start(self) -> None:
        self.starts += 1
        self.info: TrainerInfo | None = None
        self.plan: TrialPlan | None = None
        self._retired = False
        self._first_peak_mb: float | None = None
        self.handle = self.placement.start()
        threading.Thread(target=self._listen, args=(self.handle,), daemon=True).start()

    def train(self, plan: TrialPlan) -> TrainerInfo:
        assert self.info is not None
        self.plan = plan
        self.handle.send(Train(plan=plan))
        return self.info

    def has_outgrown(self, peak_memory_mb: float) -> bool:
        """Whether the process needs much more memory than in its first trial."""
        if self._first_peak_mb is None:
            self._first_peak_mb = peak_memory_mb
        return peak_memory_mb > self._first_peak_mb + _GROWTH_MB

    def retire(self) -> None:
        """Ends the process between two trials; a new one replaces it."""
        self._retired = True
        self.handle.end()

    def _listen(self, handle: TrainerHandle) -> None:
        try:
            for answer in handle.answers():
                self._events.put((self, answer))
        finally:
            self._events.put((self, None))

"""A pool of trainers behind handles: which are idle, what they say, and who replaces the dead."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tuner import errors
from tuner.errors import ModelError, UnavailableError
from tuner.training.plan import ModelPlan, Precision, TrainerInfo, TrialPlan
from tuner.training.timing import EpochTimes
from tuner.workers.messages import (
    OUTPUT_LOG,
    Answer,
    Describe,
    Described,
    Ended,
    EpochReported,
    Probe,
    Probed,
    Proceed,
    Prune,
    Ready,
    Refused,
    Request,
    Sampled,
    Train,
)
from tuner.workers.pool import (
    NOTHING_KNOWN,
    Finished,
    GivenUp,
    Lost,
    Measured,
    PoolEvent,
    Reported,
    TrainerHandle,
    TrainerReady,
)

_EXIT_WAIT_S = 5.0
_DESCRIBING_S = 3600.0
"""How long importing a model's code may take, which may fetch something."""
_PROBING_S = 4 * 3600.0
"""How long measuring an epoch may take: a quarter of one in the worst case, and compiling it."""
_LOOK_S = 1.0
"""How often it is looked whether an answer is late."""
_MOST_STARTS = 3
"""How often in a row a trainer may be lost with its machine before it is ready."""
_GROWTH_MB = 1000
"""What a trainer may gain from trial to trial: what networks leak comes back with a new one."""


@dataclass(frozen=True)
class Placement:
    """Where one trainer at a time may run, and how it is started there."""

    name: str
    start: Callable[[], TrainerHandle]


class HandlePool:
    """Trainers, each started before it is needed and reused from plan to plan."""

    def __init__(self, berths: Sequence[Placement], *, probes: int) -> None:
        """Starts a trainer at every berth; they load their engine while others work.

        Args:
            berths: where trainers run.
            probes: how many of them measure an epoch together: all where they share a machine.
        """
        self._events: queue.SimpleQueue[tuple[_Trainer, Answer | None]] = queue.SimpleQueue()
        self._held_back: list[PoolEvent] = []
        self._probes = probes
        self._trainers: list[_Trainer] = []
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            for berth in berths:
                self._trainers.append(_Trainer(berth, self._events))
            undo.pop_all()

    @property
    def idle(self) -> int:
        """How many plans could be submitted at this moment."""
        return sum(trainer.idle for trainer in self._trainers)

    @property
    def size(self) -> int:
        """How many plans can train at once."""
        return len(self._trainers)

    def describe(self, model: ModelPlan, dataset: str) -> Described:
        """What the model function takes. Waits for a trainer."""
        (answer,) = self._ask(Describe(model=model, dataset=dataset), 1, _DESCRIBING_S)
        assert isinstance(answer, Described)
        return answer

    def epoch_times(
        self,
        plan: TrialPlan,
        precisions: Sequence[Precision],
        known: Mapping[str, Precision] = NOTHING_KNOWN,
    ) -> EpochTimes:
        """How long an epoch of `plan` takes while all who share a machine are at work."""
        probe = Probe(plan=plan, precisions=tuple(precisions), known=dict(known))
        answers = self._ask(probe, self._probes, _PROBING_S)
        return EpochTimes.together([each.times for each in answers if isinstance(each, Probed)])

    def submit(self, plan: TrialPlan) -> TrainerInfo:
        """Hands the plan to an idle trainer and says to which."""
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
        """The next event, or None when none came in time."""
        deadline = time.monotonic() + timeout_s
        while True:
            if self._held_back:
                return self._held_back.pop(0)
            heard = self._heard(deadline - time.monotonic())
            if heard is None:
                return None
            if (event := self._event(*heard)) is not None:
                return event

    def close(self) -> None:
        """Ends every trainer and waits until they are gone."""
        for trainer in self._trainers:
            trainer.handle.end()
        deadline = time.monotonic() + _EXIT_WAIT_S
        for trainer in self._trainers:
            trainer.handle.wait(max(0.0, deadline - time.monotonic()))

    def _ask(self, request: Describe | Probe, trainers: int, limit_s: float) -> list[Answer]:
        """Puts a question to so many trainers at once, as soon as they are free."""
        while self.idle < min(trainers, self.size):
            self._hold_back(*self._events.get())
        asked = [trainer for trainer in self._trainers if trainer.idle][:trainers]
        for trainer in asked:
            trainer.handle.send(request)
        answers = self._answers(set(asked), limit_s)
        for answer in answers:
            if isinstance(answer, Refused):
                raise _refused(answer)
        return answers

    def _answers(self, silent: set["_Trainer"], limit_s: float) -> list[Answer]:
        """What those that were asked answer, once all have; the late ones are killed."""
        answers: list[Answer] = []
        failures: list[Exception] = []
        deadline = time.monotonic() + limit_s
        while silent:
            late = time.monotonic() > deadline
            for trainer in silent if late else ():
                trainer.handle.kill(
                    f"that took longer than {limit_s:g} s; make the model's function quicker"
                )
            heard = self._heard(_LOOK_S)
            if heard is None:
                continue
            trainer, answer = heard
            if trainer not in silent:
                self._hold_back(trainer, answer)
                continue
            silent.remove(trainer)
            if answer is None:
                failures.append(self._death(trainer, late=late))
            else:
                answers.append(answer)
        if failures:
            raise failures[-1]
        return answers

    def _death(self, trainer: "_Trainer", *, late: bool) -> Exception:
        """The error that a death over a question is; the model's code is at fault for a hang."""
        error = ModelError if late else UnavailableError
        return error(f"a trainer ended while it built or timed the model: {self._restart(trainer)}")

    def _heard(self, timeout_s: float) -> "tuple[_Trainer, Answer | None] | None":
        """What some trainer said, or None for the trainer's end; nothing when none did in time."""
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
            case EpochReported(report=report) if plan:
                return Reported(plan, report)
            case Sampled(sample=sample) if plan:
                return Measured(plan, sample)
            case Ended(result=result) if plan:
                trainer.plan = None
                if trainer.has_outgrown(result.peak_memory_mb):
                    trainer.retire()
                return Finished(plan, result)
            case Refused() if plan:
                trainer.plan = None
                raise _refused(answer)
            case None:
                reason = self._restart(trainer)
                return Lost(plan, reason) if plan else None
        raise AssertionError(f"a trainer said {answer!r} without a plan")

    def _restart(self, trainer: "_Trainer") -> str:
        """Replaces a dead trainer, unless it died before it was ready: the next would too.

        Its berth is given up then. The others go on, if any of them has ever been ready.
        """
        log = trainer.plan.folder / OUTPUT_LOG if trainer.plan else None
        ending = trainer.handle.ending(log)
        if trainer.info is not None or (ending.machine_lost and trainer.starts < _MOST_STARTS):
            trainer.start()
            return ending.reason
        self._trainers.remove(trainer)
        reason = f"a trainer on {trainer.berth.name} did not start: {ending.reason}"
        if not any(each.has_been_ready for each in self._trainers):
            raise UnavailableError(reason)
        self._held_back.append(GivenUp(reason))
        return ending.reason


def _refused(answer: Refused) -> Exception:
    error: Exception = getattr(errors, answer.error)(answer.message)
    error.add_note(f"In the trainer:\n{answer.traceback}")
    return error


class _Trainer:
    """The trainer at one berth, and the plan it works on."""

    def __init__(
        self,
        berth: Placement,
        events: "queue.SimpleQueue[tuple[_Trainer, Answer | None]]",
    ) -> None:
        self.berth = berth
        self.has_been_ready = False
        self.starts = 0
        """In a row, without having been ready."""
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
        self.handle = self.berth.start()
        threading.Thread(target=self._listen, args=(self.handle,), daemon=True).start()

    def train(self, plan: TrialPlan) -> TrainerInfo:
        assert self.info is not None
        self.plan = plan
        self.handle.send(Train(plan=plan))
        return self.info

    def has_outgrown(self, peak_memory_mb: float) -> bool:
        """Whether the process holds much more memory than its first trial needed."""
        if self._first_peak_mb is None:
            self._first_peak_mb = peak_memory_mb
        return peak_memory_mb > self._first_peak_mb + _GROWTH_MB

    def retire(self) -> None:
        """Ends the process between two trials; a new one takes its place once it is gone."""
        self._retired = True
        self.handle.end()

    def _listen(self, handle: TrainerHandle) -> None:
        try:
            for answer in handle.answers():
                self._events.put((self, answer))
        finally:
            self._events.put((self, None))

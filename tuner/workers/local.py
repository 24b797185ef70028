"""A pool of trainer processes on this machine, one a device."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import IO

from tuner import errors
from tuner.errors import UnavailableError
from tuner.spec.backend import Backend
from tuner.training.plan import ModelPlan, Precision, TrainerInfo, TrialPlan
from tuner.workers.devices import Device
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
    answer_adapter,
)
from tuner.workers.pool import Finished, Lost, Measured, PoolEvent, Reported, TrainerReady

_COMMAND = (sys.executable, "-P", "-u", "-m", "tuner.workers.trainer")
"""-P: a file in the working folder must not stand in for a module of the same name."""
_LOG_TAIL = 2000
_EXIT_WAIT_S = 5.0
_GROWTH_MB = 1000
"""What a trainer may gain from trial to trial: what networks leak comes back with a new one."""


class LocalPool:
    """Trainer processes, each started before it is needed and reused from plan to plan."""

    def __init__(
        self, devices: Sequence[Device], logs: Path, backend: Backend = "tensorflow"
    ) -> None:
        """Starts a trainer for every device; they load their engine while others work.

        Args:
            devices: what the trainers own, one each.
            logs: the folder for what trainers print outside of trials.
            backend: what they train on.
        """
        logs.mkdir(parents=True, exist_ok=True)
        self._events: queue.SimpleQueue[tuple[_TrainerProcess, Answer | None]] = queue.SimpleQueue()
        self._held_back: list[PoolEvent] = []
        self._trainers = [
            _TrainerProcess(
                device, backend, logs / f"trainer-{os.getpid()}-{index}.log", self._events
            )
            for index, device in enumerate(devices)
        ]

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
        (answer,) = self._ask(Describe(model=model, dataset=dataset), trainers=1)
        assert isinstance(answer, Described)
        return answer

    def epoch_seconds(
        self, plan: TrialPlan, precisions: Sequence[Precision]
    ) -> dict[Precision, float]:
        """How long an epoch of `plan` takes while every trainer is at work. Waits for all."""
        probe = Probe(plan=plan, precisions=tuple(precisions))
        measured = [
            answer.epoch_s
            for answer in self._ask(probe, trainers=self.size)
            if isinstance(answer, Probed)
        ]
        native = set.intersection(*(set(each) for each in measured))
        return {each: fmean(seconds[each] for seconds in measured) for each in native}

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
                trainer.kill(reason)

    def _tell(self, plan: TrialPlan, request: Request) -> None:
        for trainer in self._trainers:
            if trainer.plan is plan:
                trainer.send(request)

    def next_event(self, timeout_s: float) -> PoolEvent | None:
        """The next event, or None when none came in time."""
        if self._held_back:
            return self._held_back.pop(0)
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                happened = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return None
            event = self._event(*happened)
            if event is not None:
                return event

    def close(self) -> None:
        """Ends every trainer and waits until they are gone."""
        for trainer in self._trainers:
            trainer.end()
        for trainer in self._trainers:
            trainer.wait()

    def _ask(self, request: Request, trainers: int) -> list[Answer]:
        """Puts a question to so many trainers at once, as soon as they are free."""
        while self.idle < min(trainers, self.size):
            self._hold_back(*self._events.get())
        asked = [trainer for trainer in self._trainers if trainer.idle][:trainers]
        for trainer in asked:
            trainer.send(request)
        answers: list[Answer | None] = []
        while len(answers) < len(asked):
            trainer, answer = self._events.get()
            if trainer not in asked:
                self._hold_back(trainer, answer)
                continue
            answers.append(answer)
            if answer is None:
                died = f"a trainer died of a question about the model: {self._restart(trainer)}"
        if None in answers:
            raise UnavailableError(died)
        for answer in answers:
            if isinstance(answer, Refused):
                raise _refused(answer)
        return [answer for answer in answers if answer is not None]

    def _hold_back(self, trainer: "_TrainerProcess", answer: Answer | None) -> None:
        event = self._event(trainer, answer)
        if event is not None:
            self._held_back.append(event)

    def _event(self, trainer: "_TrainerProcess", answer: Answer | None) -> PoolEvent | None:
        plan = trainer.plan
        match answer:
            case Ready(info=info):
                trainer.info = info
                trainer.has_been_ready = True
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
            case None:
                reason = self._restart(trainer)
                return Lost(plan, reason) if plan else None
        raise AssertionError(f"a trainer said {answer!r} without a plan")

    def _restart(self, trainer: "_TrainerProcess") -> str:
        """Replaces a dead trainer, unless it died before it was ready: the next would too.

        A device that has worked before is given up then, and the others go on.
        """
        reason = trainer.last_words()
        if trainer.info is not None:
            trainer.start()
            return reason
        self._trainers.remove(trainer)
        if not trainer.has_been_ready or not self._trainers:
            raise UnavailableError(f"a trainer on {trainer.device.name} did not start: {reason}")
        return reason


def _refused(answer: Refused) -> Exception:
    error: Exception = getattr(errors, answer.error)(answer.message)
    error.add_note(f"In the trainer:\n{answer.traceback}")
    return error


class _TrainerProcess:
    """One trainer: its process, its log, and the plan it works on."""

    def __init__(
        self,
        device: Device,
        backend: Backend,
        log: Path,
        events: "queue.SimpleQueue[tuple[_TrainerProcess, Answer | None]]",
    ) -> None:
        self.device = device
        self.has_been_ready = False
        self._backend = backend
        self._log = log
        self._events = events
        self.start()

    @property
    def idle(self) -> bool:
        return self.info is not None and self.plan is None and not self._retired

    def start(self) -> None:
        self.info: TrainerInfo | None = None
        self.plan: TrialPlan | None = None
        self._retired = False
        self._killed_because = ""
        self._first_peak_mb: float | None = None
        options = ["--backend", self._backend, "--cpus", ",".join(map(str, self.device.cpus))]
        if self.device.gpu is not None:
            options += ["--gpu", self.device.gpu]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_COMMAND, *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | self.device.environment(),
                process_group=0,  # Ctrl-C reaches the driver alone, who decides
            )
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()

    def train(self, plan: TrialPlan) -> TrainerInfo:
        assert self.info is not None
        self.plan = plan
        self.send(Train(plan=plan))
        return self.info

    def send(self, request: Request) -> None:
        """A trainer that is gone hears nothing; its end arrives as an event."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(request.model_dump_json().encode() + b"\n")
            self._process.stdin.flush()

    def has_outgrown(self, peak_memory_mb: float) -> bool:
        """Whether the process holds much more memory than its first trial needed."""
        if self._first_peak_mb is None:
            self._first_peak_mb = peak_memory_mb
        return peak_memory_mb > self._first_peak_mb + _GROWTH_MB

    def retire(self) -> None:
        """Ends the process between two trials; a new one takes its place once it is gone."""
        self._retired = True
        self.end()

    def end(self) -> None:
        """Closes stdin, which a living trainer takes as its end."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def kill(self, reason: str) -> None:
        """Ends the process, hung or stopped as it may be."""
        self._killed_because = reason
        os.killpg(self._process.pid, signal.SIGKILL)  # with whatever the user's code started

    def wait(self) -> None:
        try:
            self._process.wait(_EXIT_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def last_words(self) -> str:
        """How the process ended and the end of what it printed, in its trial if it had one."""
        code = self._process.wait()
        self.end()
        log = self._log
        if self.plan and (self.plan.folder / OUTPUT_LOG).exists():
            log = self.plan.folder / OUTPUT_LOG
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        if code == -signal.SIGKILL:
            how += ", which is what the kernel does when memory runs out"
        how = self._killed_because or how
        printed = log.read_text(errors="replace")[-_LOG_TAIL:].strip()
        return f"{how}; its log {log} ends:\n{printed}" if printed else how

    def _listen(self, process: "subprocess.Popen[bytes]") -> None:
        stream: IO[bytes] | None = process.stdout
        assert stream is not None
        with stream:
            for line in stream:
                if line.endswith(b"\n"):  # else the trainer died in the middle of an answer
                    self._events.put((self, answer_adapter.validate_json(line)))
        self._events.put((self, None))

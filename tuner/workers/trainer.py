"""The process of a trainer: owns one device, reads requests from stdin, answers on stdout.

Output of the user's code and the backend goes to a log: the trial's own log while one trains, else
the trainer's. The end of stdin means that the driver is gone. The trainer then ends at once, with
all processes that it has started, even in the middle of an epoch.
"""

import argparse
import os
import platform
import queue
import socket
import threading
from importlib.metadata import version
from typing import Literal

from tuner.children import Parent, Refused
from tuner.code import code_of, digest, of_modules
from tuner.datasets import known_datasets as datasets
from tuner.errors import DataError, ModelError, UsageError, user_error_message
from tuner.models import known_models
from tuner.references import make_importable
from tuner.startup import configure_process
from tuner.training import data, training_loop
from tuner.training.engines import backends
from tuner.training.engines.base import Engine
from tuner.training.output import output_to
from tuner.training.plan import (
    EpochEnded,
    EpochReport,
    ModelPlan,
    SystemSample,
    SystemSampled,
    TrainerInfo,
    TrialPlan,
)
from tuner.workers import messages
from tuner.workers.devices import Device
from tuner.workers.messages import (
    OUTPUT_LOG,
    Answer,
    Describe,
    Probe,
    Proceed,
    Prune,
    Request,
    Train,
)
from tuner.workers.system_metrics import SystemSampler

_PATIENCE = 0.1
"""The share of an epoch's time that a trainer waits for the driver's decision on it. Pruning saves
a whole epoch; a driver whose database is away delays training by no more than this."""
_LEAST_S, _MOST_S = 0.02, 2.0
"""The limits of that time."""


class Decisions:
    """The driver's decisions on epochs: one thread receives them, another waits for them."""

    def __init__(self) -> None:
        self._received = threading.Condition()
        self._pruned: set[tuple[int, int]] = set()
        self._proceeded: tuple[int, int, int] | None = None

    def receive(self, decision: Prune | Proceed) -> None:
        """Keeps a decision."""
        with self._received:
            if isinstance(decision, Prune):
                self._pruned.add((decision.slot, decision.attempt))
            else:
                self._proceeded = (decision.slot, decision.attempt, decision.epoch)
            self._received.notify_all()

    def wait(self, plan: TrialPlan, epoch: int, timeout_s: float) -> None:
        """Waits until the driver has decided on an epoch of the plan, at most `timeout_s`."""
        with self._received:
            self._received.wait_for(
                lambda: self._proceeded == (plan.slot, plan.attempt, epoch) or self.is_pruned(plan),
                timeout_s,
            )

    def is_pruned(self, plan: TrialPlan) -> bool:
        """Whether the driver has asked for the plan to stop."""
        return (plan.slot, plan.attempt) in self._pruned


class Trainer:
    """Serves one request after another, and receives the driver's decisions while it trains."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._decisions = Decisions()
        self._imported: set[str] = set()
        """The names of the models whose code this process has imported, which it does once."""
        self._data: tuple[tuple[object, ...], data.TrainingData] | None = None
        self._parent = Parent(self._receive)

    def start(self, engine: Engine) -> None:
        """Takes the engine and answers that the trainer is ready."""
        self._engine = engine
        device = self._device if engine.platform == "gpu" else self._device.processor
        own = {"tuner": version("tuner"), "python": platform.python_version()}
        info = TrainerInfo(
            host=socket.gethostname(),
            pid=os.getpid(),
            assigned=self._device.name,
            device=device.name,
            backend=engine.backend,
            versions={**own, **engine.versions()},
            threads=device.threads,
            processor=device.model,
        )
        self._parent.answer(messages.Ready(info=info))

    def serve(self) -> None:
        """Serves requests for ever; the end of stdin ends the process."""
        while True:
            request = self._requests.get()
            match request:
                case Train(plan=plan):
                    self._train(plan)
                case Describe() | Probe():
                    self._inform(request)
                case Prune() | Proceed():  # the receiving thread handles them
                    pass

    def _receive(self, line: bytes) -> None:
        """Takes a request: the main thread may be training."""
        request = messages.request_adapter.validate_json(line)
        if isinstance(request, Prune | Proceed):
            self._decisions.receive(request)
        else:
            self._requests.put(request)

    def _inform(self, request: Describe | Probe) -> None:
        try:
            answer = self._information(request)
        except Exception as error:  # noqa: BLE001 - the user's code runs in here
            model = request.model if isinstance(request, Describe) else request.plan.model
            answer = _refusal(model.name, error)
        self._parent.answer(answer)

    def _information(self, request: Describe | Probe) -> Answer:
        if isinstance(request, Describe):
            return self._description(request)
        self._import(request.plan.model)
        native = [each for each in request.precisions if each in self._engine.precisions]
        plans = [
            request.plan.model_copy(update={"precision": each})
            for each in native or request.precisions
        ]
        data = self._load(request.plan)
        times = training_loop.epoch_times(plans, data, self._engine, request.known)
        return messages.Probed(times=times)

    def _import(self, model: ModelPlan) -> None:
        """Makes the model's code importable, and checks it before this process first imports it.

        Raises:
            UsageError: the code is not what the study's other trainers have imported.
        """
        make_importable(model.code_path)
        if model.code and model.name not in self._imported:
            found = code_of(known_models.module(model.name), model.code_path)
            if digest(found) != model.code:
                raise UsageError(
                    f"{model.name}: its code on {socket.gethostname()} is not what the study's "
                    "first trainer found: it has changed since, so run the study again, or this "
                    "machine has another version of it"
                )
            self._imported.add(model.name)

    def _description(self, request: Describe) -> messages.Described:
        path = request.model.code_path
        make_importable(path)
        hyperparameters = known_models.hyperparameters(request.model.name)
        network, images = known_models.module(request.model.name), datasets.module(request.dataset)
        model = code_of(network, path)
        code = model | code_of(images, path)
        return messages.Described(
            hyperparameters=hyperparameters,
            source=of_modules(code, network | images),
            code=code,
            model_code=digest(model),
        )

    def _train(self, plan: TrialPlan) -> None:
        plan.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._import(plan.model)
        except UsageError as error:
            self._parent.answer(Refused.of(error))
            return
        with output_to(plan.folder / OUTPUT_LOG), SystemSampler(self._sampled):
            listener = _TrialListener(plan, self._parent, self._decisions)
            result = training_loop.train(plan, self._load, self._engine, listener)
        self._parent.answer(messages.Ended(result=result))

    def _load(self, plan: TrialPlan) -> data.TrainingData:
        """The plan's rows, kept from trial to trial.

        Raises:
            DataError: the rows cannot be read or split.
        """
        key = (plan.dataset, plan.validation, plan.split_seed)
        if self._data is None or self._data[0] != key:
            self._data = (key, data.load(plan))
        return self._data[1]

    def _sampled(self, sample: SystemSample) -> None:
        self._parent.answer(SystemSampled(sample=sample))


class _TrialListener:
    """Connects the training loop of one plan to the driver."""

    def __init__(self, plan: TrialPlan, parent: Parent, decisions: Decisions) -> None:
        self._plan = plan
        self._parent = parent
        self._decisions = decisions

    def epoch_ended(self, report: EpochReport) -> None:
        self._parent.answer(EpochEnded(report=report))

    def stops_after(self, report: EpochReport) -> bool:
        patience_s = _PATIENCE * (report.train_s + report.validation_s)
        self._decisions.wait(self._plan, report.epoch, min(max(patience_s, _LEAST_S), _MOST_S))
        return self.pruned()

    def pruned(self) -> bool:
        return self._decisions.is_pruned(self._plan)


def _refusal(model: str, error: Exception) -> Refused:
    """The answer for an error; one that is not of tuner's own comes from the model's code."""
    if isinstance(error, UsageError | DataError | ModelError):
        return Refused.of(error)
    ours = ModelError(f"{model}: {type(error).__name__}: {user_error_message(error)}")
    ours.__cause__ = error
    return Refused.of(ours)


def main() -> None:
    """Serves requests until stdin ends."""
    configure_process()
    parser = argparse.ArgumentParser(prog="python -m tuner.workers.trainer")
    parser.add_argument("--backend", required=True, choices=backends.TITLES)
    parser.add_argument("--cpus", required=True, type=lambda text: tuple(map(int, text.split(","))))
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--gpu")
    options = parser.parse_args()
    kind: Literal["cpu", "gpu"] = "gpu" if options.gpu else "cpu"
    device = Device(kind, options.cpus, options.gpu, options.threads)
    os.sched_setaffinity(0, device.cpus)
    trainer = Trainer(device)
    trainer.start(backends.start(options.backend, threads=device.threads))
    trainer.serve()


if __name__ == "__main__":
    main()

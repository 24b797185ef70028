"""A pool of trainers on this machine, each a child process behind two pipes."""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from tuner.children import Child
from tuner.errors import encodable
from tuner.spec.recipe import Backend
from tuner.workers.devices import Device
from tuner.workers.handle_pool import HandlePool, Placement
from tuner.workers.messages import Answer, Request, answer_adapter
from tuner.workers.pool import Ending

_TRAINER = ("-m", "tuner.workers.trainer")
_LOG_TAIL = 2000
_START_S = 900.0
"""The limit for loading an engine, which takes minutes over a slow network."""


class TrainerProcess:
    """The handle of a trainer on this machine, connected by two pipes."""

    def __init__(self, device: Device, backend: Backend, log: Path) -> None:
        """Starts the trainer; it loads its engine while others work.

        Args:
            device: the device that it owns.
            backend: the backend that it trains on.
            log: the file to which its output outside of trials is appended.
        """
        self._log = log
        self._killed_because = ""
        options = ["--backend", backend, "--cpus", ",".join(map(str, device.cpus))]
        options += ["--threads", str(device.threads)]
        if device.gpu is not None:
            options += ["--gpu", device.gpu]
        environment = os.environ | device.environment()
        self._process = Child([*_TRAINER, *options], output=log, env=environment)

    def send(self, request: Request) -> None:
        """Sends a request; does nothing if the trainer is gone, which shows in its answers."""
        self._process.send(request.model_dump_json())

    def answers(self) -> Iterator[Answer]:
        """Yields its answers, in order, until it ends; kills a trainer that does not get ready."""
        try:
            for line in self._process.lines(first_within_s=_START_S):
                yield answer_adapter.validate_json(line)
        except TimeoutError:
            self.kill(f"it was not ready within {_START_S:g} s")

    def end(self) -> None:
        """Closes the trainer's stdin, which makes it end."""
        self._process.close_input()

    def kill(self, reason: str) -> None:
        """Ends the trainer at once, even if it hangs, with all processes that it has started."""
        self._killed_because = reason
        self._process.kill()

    def wait(self, timeout_s: float) -> None:
        """Waits until the trainer is gone; after `timeout_s` kills it and what it has started."""
        self._process.wait(timeout_s)

    def ending(self, trial_log: Path | None) -> Ending:
        """How the trainer ended, with the end of its output: the trial's, if it had one."""
        ended = self._process.ending()
        how = self._killed_because or ended
        log = trial_log if trial_log and trial_log.exists() else self._log
        printed = encodable(_tail(log).strip())
        return Ending(f"{how}; its log {log} ends:\n{printed}" if printed else how)


class LocalPool(HandlePool):
    """Trainers that are children of this process."""

    def __init__(
        self, devices: Sequence[Device], logs: Path, backend: Backend = "tensorflow"
    ) -> None:
        """Starts a trainer for every device.

        Args:
            devices: the devices of the trainers, one each.
            logs: the folder for the trainers' output outside of trials.
            backend: the backend that they train on.
        """
        logs.mkdir(parents=True, exist_ok=True)
        placements = [
            Placement(
                device.name,
                partial(TrainerProcess, device, backend, logs / f"trainer-{os.getpid()}-{n}.log"),
            )
            for n, device in enumerate(devices)
        ]
        super().__init__(placements, probes=len(placements))


def _tail(log: Path) -> str:
    """The last `_LOG_TAIL` bytes as text: a log may be larger than the memory."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_TAIL))
        return file.read().decode(errors="replace")

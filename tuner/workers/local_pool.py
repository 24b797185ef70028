"""One trainer's process: how it is started, spoken to and ended, and what its end was like."""

import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from tuner.children import Child
from tuner.errors import encodable, ending_of
from tuner.spec.recipe import Backend
from tuner.workers.devices import Device
from tuner.workers.handle_pool import HandlePool, Placement
from tuner.workers.messages import Answer, Request, answer_adapter
from tuner.workers.pool import Ending


class LocalPool(HandlePool):
    """Trainers that are children of this process."""

    def __init__(
        self, devices: Sequence[Device], logs: Path, backend: Backend = "tensorflow"
    ) -> None:
        """Starts a trainer for every device.

        Args:
            devices: what the trainers own, one each.
            logs: the folder for what trainers print outside of trials.
            backend: what they train on.
        """
        logs.mkdir(parents=True, exist_ok=True)
        berths = [
            Placement(
                device.name,
                partial(TrainerProcess, device, backend, logs / f"trainer-{os.getpid()}-{n}.log"),
            )
            for n, device in enumerate(devices)
        ]
        super().__init__(berths, probes=len(berths))


_COMMAND = (sys.executable, "-P", "-u", "-m", "tuner.workers.trainer")
"""-P: a file in the working folder must not stand in for a module of the same name."""
_LOG_TAIL = 2000
_START_S = 900.0
"""How long a trainer may take to load its engine; over a slow network that is minutes."""
_PARTING_S = 5.0
"""How long a trainer that says nothing more may take to be gone."""


class TrainerProcess:
    """A trainer on this machine, at the other end of two pipes."""

    def __init__(self, device: Device, backend: Backend, log: Path) -> None:
        """Starts it; it loads its engine while others work.

        Args:
            device: what it owns.
            backend: what it trains on.
            log: where it prints outside of trials; appended to.
        """
        self._log = log
        self._killed_because = ""
        options = ["--backend", backend, "--cpus", ",".join(map(str, device.cpus))]
        options += ["--threads", str(device.threads)]
        if device.gpu is not None:
            options += ["--gpu", device.gpu]
        with log.open("ab") as file:
            self._process = Child(
                [*_COMMAND, *options], stderr=file, env=os.environ | device.environment()
            )

    def send(self, request: Request) -> None:
        """A trainer that is gone hears nothing; its end shows in its answers."""
        self._process.send(request.model_dump_json())

    def answers(self) -> Iterator[Answer]:
        """What it says, in order, until it ends; one that never gets ready is killed."""
        try:
            for line in self._process.lines(first_within_s=_START_S):
                yield answer_adapter.validate_json(line)
        except TimeoutError:
            self.kill(f"it was not ready within {_START_S:g} s")

    def end(self) -> None:
        """Closes its stdin, which a living trainer takes as its end."""
        self._process.close_input()

    def kill(self, reason: str) -> None:
        """Ends it at once, hung or stopped as it may be, with whatever the user's code started."""
        self._killed_because = reason
        self._process.kill()

    def wait(self, timeout_s: float) -> None:
        """Waits until it is gone; one that does not go is killed, and so is what it leaves."""
        self._process.wait(timeout_s)

    def ending(self, trial_log: Path | None) -> Ending:
        """How it ended, and the end of what it printed: in its trial, if it had one."""
        code = self._process.wait(_PARTING_S)
        how = self._killed_because or ("it did not end" if code is None else ending_of(code))
        log = trial_log if trial_log and trial_log.exists() else self._log
        printed = encodable(_tail(log).strip())
        return Ending(f"{how}; its log {log} ends:\n{printed}" if printed else how)


def _tail(log: Path) -> str:
    """The last `_LOG_TAIL` bytes, as text: a log may be larger than the memory."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_TAIL))
        return file.read().decode(errors="replace")

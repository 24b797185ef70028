"""The handle protocol: how a pool holds a running trainer, whichever machine it runs on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tuner.workers.messages import Answer, Request


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

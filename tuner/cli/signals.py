"""Ctrl-C and SIGTERM, turned into a question that a driver asks between events.

Until the driver asks for the first time nothing is in progress, so a signal ends the command
at once. From then on the first signal is kept for the driver, who hands its trials back; a
second Ctrl-C does not wait for that. A worker that looks for another study says so.
"""

import signal
from types import FrameType
from typing import Self

from tuner.errors import ExitCode

_CODES = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: ExitCode.TERMINATED}


class StopSignals:
    """Holds the signals while entered."""

    def __init__(self) -> None:
        self.exit_code: ExitCode | None = None
        self._asked = False

    def received(self) -> bool:
        """Whether a signal came. Whoever asks promises to ask again, soon."""
        self._asked = True
        return self.exit_code is not None

    def rest(self) -> None:
        """Nothing is in progress any more: the next signal ends the command at once again."""
        self._asked = False
        if self.exit_code is not None:
            raise SystemExit(self.exit_code)

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._receive) for number in _CODES}
        return self

    def __exit__(self, *raised: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        again = self.exit_code is not None and number == signal.SIGINT
        self.exit_code = self.exit_code or _CODES[signal.Signals(number)]
        if again or not self._asked:
            raise SystemExit(self.exit_code)

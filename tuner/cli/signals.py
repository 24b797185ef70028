"""Ctrl-C and SIGTERM, turned into a question that a driver asks between events."""

import signal
from types import FrameType, TracebackType
from typing import Self

from tuner.errors import ExitCode

_CODES = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: ExitCode.TERMINATED}


class StopSignals:
    """While entered, keeps the first signal for whoever asks; a second Ctrl-C ends at once."""

    def __init__(self) -> None:
        self.exit_code: ExitCode | None = None

    def received(self) -> bool:
        """Whether a signal came."""
        return self.exit_code is not None

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._receive) for number in _CODES}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.received() and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.exit_code = _CODES[signal.Signals(number)]

"""Ctrl-C and SIGTERM: they ask a driver to stop, and end the command at once if nothing runs.

Before the driver calls `received` for the first time nothing is in progress, so a signal ends the
command at once. After that, the first signal makes the driver hand its trials back. A second
Ctrl-C ends the command without that. A worker between two studies calls `rest`.

A driver that cannot hand its trials back in time, for example because the database does not
answer, ends as if it was killed. The next driver takes over.
"""

import os
import signal
import socket
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Self

import typer

from tuner.errors import ExitCode, TunerError, os_error_message

_CODES: dict[int, ExitCode] = {
    signal.SIGINT: ExitCode.INTERRUPTED,
    signal.SIGTERM: ExitCode.TERMINATED,
}
_STDERR = 2
_LIMIT_S = 20.0
"""The time limit for stopping. It takes 10 s if the database and MLflow answer, and at most 16 s
if only the database does."""
_TOO_LATE = (
    f"error: not stopped within {_LIMIT_S:g} s, so the process ended as if it was killed; "
    "run the same command to resume\n"
)


class StopSignals:
    """Handles both signals inside a `with` block."""

    def __init__(self) -> None:
        self.exit_code: ExitCode | None = None
        self._asked = False
        self._last_resort = _LastResort()

    def received(self) -> bool:
        """Whether a signal was received. The caller must call it again soon."""
        self._asked = True
        return self.exit_code is not None

    def rest(self) -> None:
        """Tells that nothing is in progress: the next signal ends the command at once.

        Raises:
            SystemExit: a signal was received.
        """
        self._asked = False
        if self.exit_code is not None:
            raise SystemExit(self.exit_code)

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._receive) for number in _CODES}
        self._last_resort.prepare()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Ends a command that received a signal with that signal's exit code, even after an error.

        The next driver takes over the trials that were not handed back.
        """
        self._last_resort.dismiss()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.exit_code is not None and isinstance(error, TunerError | OSError):
            said = os_error_message(error) if isinstance(error, OSError) else str(error)
            typer.echo(f"error: {said}", err=True)
            raise SystemExit(self.exit_code) from error

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        again = self.exit_code is not None and number == signal.SIGINT
        self.exit_code = self.exit_code or _CODES[number]
        if again or not self._asked:
            raise SystemExit(self.exit_code)


class _LastResort:
    """Ends the process 20 s after a signal, even if its main thread hangs.

    A Python handler does not run while the main thread waits in a library's native code. But the
    interpreter writes the number of a signal to the wake-up socket at once.
    """

    def prepare(self) -> None:
        """Starts to listen for signals."""
        numbers, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        self._before = signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._listen, args=(numbers,), name="signals", daemon=True).start()

    def dismiss(self) -> None:
        """Stops listening."""
        signal.set_wakeup_fd(self._before)
        self._wakeup.close()

    def _listen(self, numbers: socket.socket) -> None:
        with numbers:
            code = None
            while code is None:
                received = numbers.recv(64)
                if not received:
                    return
                code = next((_CODES[number] for number in received if number in _CODES), None)
            deadline = time.monotonic() + _LIMIT_S
            while (left_s := deadline - time.monotonic()) > 0:
                numbers.settimeout(left_s)
                try:
                    if not numbers.recv(64):
                        return
                except TimeoutError:
                    break
            with suppress(OSError):  # standard error is closed
                os.write(_STDERR, _TOO_LATE.encode())
            os._exit(code)

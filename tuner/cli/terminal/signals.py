"""Ctrl-C and SIGTERM, turned into a question that a driver asks between events.

Until the driver asks for the first time nothing is in progress, so a signal ends the command
at once. From then on the first signal is kept for the driver, who hands its trials back; a
second Ctrl-C does not wait for that. A worker that looks for another study says so.

A driver that cannot hand anything back, for example because its database takes every question and
answers none, ends all the same, as if it had been killed: the next driver takes over.
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

from tuner.errors import ExitCode, TunerError, said_by

_CODES: dict[int, ExitCode] = {
    signal.SIGINT: ExitCode.INTERRUPTED,
    signal.SIGTERM: ExitCode.TERMINATED,
}
_STDERR = 2
_LIMIT_S = 20.0
"""How long stopping may take: ten seconds where database and MLflow answer, sixteen at most where
only the database does."""
_TOO_LATE = (
    f"error: not stopped within {_LIMIT_S:g} s, so ended like one that is killed; "
    "run the same command to go on\n"
)


class StopSignals:
    """Holds the signals while entered."""

    def __init__(self) -> None:
        self.exit_code: ExitCode | None = None
        self._asked = False
        self._last_resort = _LastResort()

    def received(self) -> bool:
        """Whether a signal came. The caller promises to ask again soon."""
        self._asked = True
        return self.exit_code is not None

    def rest(self) -> None:
        """Nothing is in progress any more: the next signal ends the command at once again."""
        self._asked = False
        if self.exit_code is not None:
            raise SystemExit(self.exit_code)

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._receive) for number in _CODES}
        self._last_resort.prepare()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """A command that was told to stop ends with the signal's code, whatever went wrong then.

        What it could not hand back is taken over, as from a driver that is killed.
        """
        self._last_resort.dismiss()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.exit_code is not None and isinstance(error, TunerError | OSError):
            said = said_by(error) if isinstance(error, OSError) else str(error)
            typer.echo(f"error: {said}", err=True)
            raise SystemExit(self.exit_code) from error

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        again = self.exit_code is not None and number == signal.SIGINT
        self.exit_code = self.exit_code or _CODES[number]
        if again or not self._asked:
            raise SystemExit(self.exit_code)


class _LastResort:
    """Ends the process some time after a signal, whatever its main thread is waiting for.

    A handler in Python would not run while that waits in a library's own code; the interpreter
    writes the number of a signal to the wake-up socket at once.
    """

    def prepare(self) -> None:
        """Listens from now on."""
        numbers, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        self._before = signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._listen, args=(numbers,), name="signals", daemon=True).start()

    def dismiss(self) -> None:
        """The process has come to its end by itself."""
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
            with suppress(OSError):  # nobody listens any more
                os.write(_STDERR, _TOO_LATE.encode())
            os._exit(code)

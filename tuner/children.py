"""Child processes: what they say until they end, and the end of all that they have started.

A pipe that stays open does not tell of a life: what a process forks holds its pipes too, and may
outlive it. So the process itself is watched, by a thread in `waitid`: every Linux has that, while
`pidfd_open` came with 5.3 and is refused in some containers.
"""

import os
import selectors
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from io import BufferedReader
from typing import IO

_CHUNK = 1 << 16


class Child:
    """A process that is spoken to over its standard input and output, in a session of its own.

    So Ctrl-C reaches its parent alone, and it can be ended with all that it has started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stderr: int | IO[bytes],
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Starts it; `stderr` and `env` as `subprocess` has them."""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=env,
            start_new_session=True,
        )
        try:
            self._ended = _end_of(self._process.pid)
        except BaseException:
            with self._process:  # closes its pipes, and waits
                self.kill()
            raise
        weakref.finalize(self, os.close, self._ended)

    @property
    def stderr(self) -> BufferedReader:
        """What it says elsewhere, where that is a pipe."""
        assert isinstance(self._process.stderr, BufferedReader)
        return self._process.stderr

    def send(self, line: str) -> None:
        """Writes a line to it; one that is gone hears nothing."""
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            return
        with suppress(BrokenPipeError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def lines(self, first_within_s: float) -> Iterator[bytes]:
        """The lines that it writes, until it has ended or closes its output.

        What it had not finished is left out.

        Raises:
            TimeoutError: the first line took longer than that.
        """
        assert self._process.stdout is not None
        deadline: float | None = time.monotonic() + first_within_s
        rest = b""
        with self._process.stdout as stream:
            while chunk := self._read(stream.fileno(), deadline):
                *lines, rest = (rest + chunk).split(b"\n")
                deadline = None if lines else deadline
                yield from lines

    def _read(self, stream: int, deadline: float | None) -> bytes:
        """The next of what it writes; nothing once it has ended and all was read."""
        left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
        with selectors.DefaultSelector() as either:
            for source in (stream, self._ended):
                either.register(source, selectors.EVENT_READ)
            ready = {key.fd for key, _ in either.select(left_s)}
        if not ready:
            raise TimeoutError
        return os.read(stream, _CHUNK) if stream in ready else b""

    def close_input(self) -> None:
        """Ends what it hears, which asks it to end."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def kill(self) -> None:
        """Ends it at once, hung or stopped as it may be, with what it started in its group."""
        if self._process.returncode is None:  # else its number may be another's by now
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def wait(self, timeout_s: float) -> int | None:
        """Waits until it has ended, then ends what it leaves.

        Returns:
            Its exit code as `subprocess` gives it, or None where it had to be killed now.
        """
        with selectors.DefaultSelector() as end:
            end.register(self._ended, selectors.EVENT_READ)
            ended = bool(end.select(timeout_s))
            self.kill()  # before its number is given back
            end.select()  # nor is it given back under the thread that watches it
        code = self._process.wait()
        self.close_input()
        return code if ended else None


def _end_of(child: int) -> int:
    """A descriptor that can be read from once the child has ended; its number is still taken."""
    ended, told = os.pipe()
    try:
        threading.Thread(target=_watch, args=(child, told), daemon=True).start()
    except BaseException:
        os.close(told)
        os.close(ended)
        raise
    return ended


def _watch(child: int, told: int) -> None:
    """Writes a byte at its end: a process that was forked meanwhile may hold the pipe open."""
    with suppress(ChildProcessError):  # nobody holds its `Child`, so that others have waited for it
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    with suppress(BrokenPipeError):
        os.write(told, b"!")
    os.close(told)


def end_own_group() -> None:
    """Ends all of the group that this process leads, itself too; nothing where it leads none."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)

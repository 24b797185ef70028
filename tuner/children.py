"""Child processes: their input and output, and ending them with all processes they started.

An open pipe does not mean that the child lives: processes that it forked hold its pipes too, and
may outlive it. So a thread waits for the child itself with `waitid`, which every Linux has;
`pidfd_open` needs Linux 5.3 and is forbidden in some containers.
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
    """A child process with pipes for its standard input and output, in a session of its own.

    So Ctrl-C reaches only the parent, and the child can be killed with all processes it started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stderr: int | IO[bytes],
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Starts the process; `stderr` and `env` as for `subprocess.Popen`."""
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
            with self._process:  # closes the pipes, and waits
                self.kill()
            raise
        weakref.finalize(self, os.close, self._ended)

    @property
    def stderr(self) -> BufferedReader:
        """The child's standard error, if it is a pipe."""
        assert isinstance(self._process.stderr, BufferedReader)
        return self._process.stderr

    def send(self, line: str) -> None:
        """Sends a line to the child. Does nothing if the child has ended."""
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            return
        with suppress(BrokenPipeError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def lines(self, first_within_s: float) -> Iterator[bytes]:
        """Yields the child's lines until it ends or closes its output, without a last partial line.

        Raises:
            TimeoutError: the first line took longer than `first_within_s` seconds.
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
        """Reads the next bytes; none if the child has ended and everything was read."""
        left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
        with selectors.DefaultSelector() as either:
            for source in (stream, self._ended):
                either.register(source, selectors.EVENT_READ)
            ready = {key.fd for key, _ in either.select(left_s)}
        if not ready:
            raise TimeoutError
        return os.read(stream, _CHUNK) if stream in ready else b""

    def close_input(self) -> None:
        """Closes the child's standard input, which asks it to end."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def kill(self) -> None:
        """Kills the child and its process group, even if it hangs or is stopped."""
        if self._process.returncode is None:  # otherwise its number may belong to another process
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def wait(self, timeout_s: float) -> int | None:
        """Waits until the child has ended, then kills the rest of its process group.

        Returns:
            The exit code, as in `subprocess`; None if the child had to be killed after the
            timeout.
        """
        with selectors.DefaultSelector() as end:
            end.register(self._ended, selectors.EVENT_READ)
            ended = bool(end.select(timeout_s))
            self.kill()  # before `wait` frees the process number
            end.select()  # the thread in `waitid` needs the number too
        code = self._process.wait()
        self.close_input()
        return code if ended else None


def end_own_group() -> None:
    """Kills the process group that this process leads, including itself, if it leads one."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)


def _end_of(child: int) -> int:
    """Returns a descriptor that becomes readable when the child has ended.

    The child's number stays reserved until `wait`.
    """
    ended, notice = os.pipe()
    try:
        threading.Thread(target=_watch, args=(child, notice), daemon=True).start()
    except BaseException:
        os.close(notice)
        os.close(ended)
        raise
    return ended


def _watch(child: int, notice: int) -> None:
    """Writes a byte when the child ends. Closing is not enough: a fork may hold the pipe open."""
    with suppress(ChildProcessError):  # another part of the program has waited for it
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    with suppress(BrokenPipeError):
        os.write(notice, b"!")
    os.close(notice)

"""Child processes that run a module of this program: both ends of the talk, errors, and their end.

A child gets lines of JSON on its standard input and answers with such lines on its standard output.
The end of its input means that its parent is gone. What it prints, and what native code in it
prints, goes to a file or a function of its owner.

An open pipe does not mean that the child lives: processes that it forked hold its pipes too, and
may outlive it. So a thread waits for the child itself with `waitid`, which every Linux has;
`pidfd_open` needs Linux 5.3 and is forbidden in some containers.
"""

import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from tuner import errors
from tuner.errors import TunerError, encodable, ending_of

_CHUNK = 1 << 16
_PARTING_S = 5.0
"""The limit for a child to end after its last answer, and for what it printed to arrive."""
_Raised = Literal["UsageError", "DataError", "ModelError", "UnavailableError", "TunerError"]
"""The errors that a child may raise in its parent; another one crosses as its base class here."""
_Answer = TypeVar("_Answer", bound=BaseModel)


class DiedError(Exception):
    """A child ended before it answered; the message says how."""


class Refused(BaseModel, frozen=True, extra="forbid"):
    """An answer: the request failed with an error that the parent raises."""

    kind: Literal["refused"] = "refused"
    error: _Raised
    message: str
    traceback: str

    @classmethod
    def of(cls, error: TunerError) -> Self:
        """The answer for an error that was caught in the child."""
        name = next(each for each in get_args(_Raised) if isinstance(error, getattr(errors, each)))
        trace = encodable("".join(traceback.format_exception(error)))
        return cls(error=name, message=str(error), traceback=trace)

    def as_error(self) -> TunerError:
        """The same error in the parent."""
        error: TunerError = getattr(errors, self.error)(self.message)
        error.add_note(f"In the child process:\n{self.traceback}")
        return error


class Child:
    """A child process, in a session of its own.

    So Ctrl-C reaches only the parent, and the child can be killed with all processes it started.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        output: Path | Callable[[str], None],
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Starts the process.

        Args:
            arguments: the arguments of Python.
            output: the file to which its output is appended, or a function that receives each
                line of it, in another thread.
            env: its environment, if it is not that of this process.
        """
        with nullcontext(subprocess.PIPE) if callable(output) else output.open("ab") as stderr:
            # -P: a file in the working folder must not replace a module of the same name.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-u", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=env,
                start_new_session=True,
            )
        try:
            self._ended = _end_of(self._process.pid)
            weakref.finalize(self, os.close, self._ended)
            passing_on = (self._process.stderr, output)
            self._listener = threading.Thread(target=_pass_on, args=passing_on, daemon=True)
            self._listener.start()
        except BaseException:
            with self._process:  # closes the pipes, and waits
                self.kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        """Ends the child and all that it has started; waits until its output was passed on."""
        self.wait(0)
        self._listener.join(_PARTING_S)  # a process that left the group may hold the pipe open

    @property
    def pid(self) -> int:
        """The id of the child, and of its process group."""
        return self._process.pid

    def send(self, line: str) -> None:
        """Sends a line to the child. Does nothing if the child has ended."""
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            return
        with suppress(BrokenPipeError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def lines(self, first_within_s: float | None = None) -> Iterator[bytes]:
        """Yields the child's lines until it ends or closes its output, without a last partial line.

        Raises:
            TimeoutError: the first line took longer than `first_within_s` seconds.
        """
        assert self._process.stdout is not None
        deadline = None if first_within_s is None else time.monotonic() + first_within_s
        rest = b""
        with self._process.stdout as stream:
            while chunk := self._read(stream.fileno(), deadline):
                *lines, rest = (rest + chunk).split(b"\n")
                deadline = None if lines else deadline
                yield from lines

    def _read(self, stream: int, deadline: float | None) -> bytes:
        """Reads the next bytes; none if the child has ended and everything was read."""
        left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready = _readable(left_s, stream, self._ended)
        if not ready:
            raise TimeoutError("it took too long")
        return os.read(stream, _CHUNK) if stream in ready else b""

    def close_input(self) -> None:
        """Closes the child's standard input, which asks it to end."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def terminate(self) -> None:
        """Asks the child to end with SIGTERM."""
        if self._process.returncode is None:
            os.kill(self._process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kills the child and its process group, even if it hangs or is stopped."""
        if self._process.returncode is None:  # otherwise its number may belong to another process
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def ends(self, within_s: float) -> bool:
        """Whether the child has ended, after a wait of at most `within_s`."""
        return bool(_readable(within_s, self._ended))

    def wait(self, timeout_s: float) -> int | None:
        """Waits until the child has ended, then kills the rest of its process group.

        Returns:
            The exit code, as in `subprocess`; None if the child had to be killed after the
            timeout.
        """
        ended = self.ends(timeout_s)
        self.kill()  # before `wait` frees the process number
        _readable(None, self._ended)  # the thread in `waitid` needs the number too
        code = self._process.wait()
        self.close_input()
        return code if ended else None

    def ending(self) -> str:
        """Waits for the end of a child that has no more to say; returns how it ended."""
        code = self.wait(_PARTING_S)
        return "it closed its output and did not end" if code is None else ending_of(code)


def ask(
    arguments: Sequence[str],
    request: BaseModel,
    answer: type[_Answer],
    *,
    within_s: float,
    output: Callable[[str], None],
    env: Mapping[str, str] | None = None,
) -> _Answer:
    """Asks a child that calls `answer_one` and ends.

    Args:
        arguments: as for `Child`.
        request: what it is asked.
        answer: the type of its answer.
        within_s: the limit for the answer.
        output: as for `Child`.
        env: as for `Child`.

    Raises:
        TunerError: the one with which the child answered.
        DiedError: it ended before it answered.
        TimeoutError: the limit was over, and it was killed.
    """
    with Child(arguments, output=output, env=env) as child:
        child.send(request.model_dump_json())
        line = next(child.lines(first_within_s=within_s), b"")
        how = child.ending()
    if not line:
        raise DiedError(how)
    with suppress(ValidationError):  # it is no refusal
        raise Refused.model_validate_json(line).as_error()
    return answer.model_validate_json(line)


class Parent:
    """The parent of this process. When it is gone, this process and its group end at once."""

    def __init__(self, receive: Callable[[bytes], None]) -> None:
        """Takes over standard input and output; `receive` gets each request, in another thread."""
        requests, answers = take_streams()
        self._answers, self._answering = os.fdopen(answers, "wb"), threading.Lock()
        threading.Thread(target=_receive, args=(requests, receive), daemon=True).start()

    def answer(self, answer: BaseModel) -> None:
        """Sends an answer, in one line."""
        with self._answering:
            self._answers.write(answer.model_dump_json().encode() + b"\n")
            self._answers.flush()


def answer_one(answer: Callable[[bytes], BaseModel]) -> None:
    """Answers the parent's one request with what `answer` returns, or with its `TunerError`."""
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    parent = Parent(requests.put)
    try:
        parent.answer(answer(requests.get()))
    except TunerError as error:
        parent.answer(Refused.of(error))


def take_streams() -> tuple[int, int]:
    """Takes over standard input and output; returns their descriptors.

    Other code that reads finds the input at its end, and what it prints goes to standard error.
    """
    requests, answers = os.dup(0), os.dup(1)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return requests, answers


def _receive(requests: int, receive: Callable[[bytes], None]) -> None:
    """Passes on whole lines until the input ends, and then ends this process and its group."""
    try:
        for line in os.fdopen(requests, "rb"):
            if line.endswith(b"\n"):  # otherwise the parent died in the middle of it
                receive(line)
    except Exception:  # noqa: BLE001 - a child without requests would wait for ever
        traceback.print_exc()
        os._exit(1)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _pass_on(stream: IO[bytes] | None, output: Path | Callable[[str], None]) -> None:
    """Passes on what a child prints, unless it goes to a file."""
    if stream is None or not callable(output):
        return
    with TextIOWrapper(stream, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            output(line.rstrip("\n"))


def _readable(timeout_s: float | None, *descriptors: int) -> set[int]:
    """The descriptors that can be read, after a wait for the first one."""
    with selectors.DefaultSelector() as selector:
        for descriptor in descriptors:
            selector.register(descriptor, selectors.EVENT_READ)
        return {key.fd for key, _ in selector.select(timeout_s)}


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

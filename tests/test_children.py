"""Children that die, cut a line off, say nothing, or leave others behind."""

import errno
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from pydantic import BaseModel

from tests.waiting import LONGEST_S, wait_until
from tests.workers.conftest import is_gone
from tuner.children import Child, DiedError, ask
from tuner.errors import ModelError, TunerError, UnavailableError, UsageError

FORKS = """
import os, signal
readable, writable = os.pipe()
child = os.fork()
if not child:
    {leave}
    os.write(writable, b"!")
    while True:
        signal.pause()
os.read(readable, 1)
os.write(1, b"%d\\n" % child + b"half a li")
"""


def child(code: str) -> Child:
    return Child(["-c", code], output=Path(os.devnull))


@pytest.mark.parametrize("leave", ["pass", "os.setsid()"])
def test_its_last_words_are_heard_though_what_it_forked_holds_the_pipe(leave: str) -> None:
    process = child(FORKS.format(leave=leave) + "os._exit(7)")
    (line,) = process.lines(first_within_s=LONGEST_S)
    assert process.wait(LONGEST_S) == 7
    if leave == "pass":
        wait_until(lambda: is_gone(int(line)))
    else:
        os.kill(int(line), signal.SIGKILL)


def test_one_that_says_nothing_is_late_and_is_ended_by_the_wait() -> None:
    process = child("import time; time.sleep(600)")
    with pytest.raises(TimeoutError):
        list(process.lines(first_within_s=0.1))
    assert process.wait(0) is None


def test_one_that_is_gone_hears_nothing() -> None:
    process = child("")
    assert process.wait(LONGEST_S) == 0
    process.send("anything")
    assert list(process.lines(first_within_s=0)) == []


def test_no_system_call_is_needed_that_older_kernels_and_some_containers_lack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lacking(*_: object) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", lacking)
    process = child(FORKS.format(leave="pass") + "os._exit(7)")
    (line,) = process.lines(first_within_s=LONGEST_S)
    assert process.wait(LONGEST_S) == 7
    wait_until(lambda: is_gone(int(line)))


def test_one_that_cannot_be_watched_is_not_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before = psutil.Process().children()
    monkeypatch.setattr(threading.Thread, "start", exhausted)
    with pytest.raises(RuntimeError, match="new thread"):
        child("import time; time.sleep(600)")
    assert psutil.Process().children() == before


def test_one_that_was_waited_for_leaves_neither_descriptor_nor_thread() -> None:
    this = psutil.Process()
    before = this.num_fds(), threading.active_count()
    for code in ("", "import time; time.sleep(600)"):
        for _ in range(3):
            process = child(code)
            with suppress(TimeoutError):
                list(process.lines(first_within_s=0))
            process.wait(0)
            del process
    wait_until(lambda: (this.num_fds(), threading.active_count()) == before)


class Question(BaseModel):
    code: str


class Number(BaseModel):
    number: int


ANSWERS = """
import os, sys, time
from pydantic import BaseModel
from tuner.children import answer_one
from tuner.errors import *

class Number(BaseModel):
    number: int

def answer(line):
    code = __import__("json").loads(line)["code"]
    print("asked")
    exec(code)
    return Number(number=7)

answer_one(answer)
"""


def answer_to(code: str, within_s: float = LONGEST_S) -> tuple[int, list[str]]:
    printed: list[str] = []
    question = Question(code=code)
    found = ask(
        ["-c", ANSWERS], question, Number, within_s=within_s, output=printed.append,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    return found.number, printed


def test_an_answer_comes_back_beside_all_that_is_printed() -> None:
    code = "os.write(1, b'raw\\n'); os.system('echo shell'); assert sys.stdin.read() == ''"
    assert answer_to(code) == (7, ["asked", "raw", "shell"])


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        ("ModelError('no layer')", ModelError),
        ("SpecError('file', ['no layer'])", UsageError),
        ("SupersededError('no layer')", UnavailableError),
        ("RefusedError('no layer')", TunerError),
    ],
)
def test_an_error_is_raised_by_who_asked(raised: str, error: type[TunerError]) -> None:
    with pytest.raises(error, match="no layer") as crossed:
        answer_to(f"raise {raised}")
    assert type(crossed.value) is error
    assert "Traceback" in crossed.value.__notes__[0]


def test_one_that_dies_is_told_from_one_that_is_late() -> None:
    with pytest.raises(DiedError, match=r"^exit status 3$"):
        answer_to("sys.exit(3)")
    with pytest.raises(TimeoutError):
        answer_to("time.sleep(600)", within_s=0.1)

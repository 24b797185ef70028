"""Prepares a data set in a process of its own, since a user's function may import anything.

`python -m tuner.datasets.prepare` reads a `Request` as one line of JSON from standard input
and answers with one line on standard output: a `DatasetInfo`, or
`{"error": {"type": ..., "message": ...}}`. Everything that is printed meanwhile, by whomever,
goes to standard error. The process ends when its standard input does, so it never outlives
the one who asked.
"""

import json
import logging
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader, TextIOWrapper
from pathlib import Path

from tuner.children import Child, end_own_group
from tuner.datasets.store import DatasetInfo, prepare
from tuner.errors import DataError, TunerError, UnavailableError, UsageError, ending_of
from tuner.references import make_importable
from tuner.spec.section import Frozen
from tuner.spec.study_spec import DatasetReference
from tuner.startup import settle

_COMMAND = (sys.executable, "-P", "-u", "-X", "faulthandler", "-m", "tuner.datasets.prepare")
_LOG, _KEPT_LINES = "prepare.log", 1000
"""Where the last lines of a process that died are kept, below the data sets' folder."""
_LIMIT_S = 2 * 3600.0
"""How long preparing may take: a large download and a million pictures do not take that."""
_GRACE_S = 5.0
"""How long the process may take to leave once it has answered."""

_ERRORS = {error.__name__: error for error in (DataError, UsageError, UnavailableError)}


class Request(Frozen):
    """What to prepare, and where."""

    reference: DatasetReference
    root: Path
    code_path: tuple[Path, ...] = ()
    """Folders that the user's own modules are imported from."""


def prepare_apart(
    reference: DatasetReference,
    root: Path,
    code_path: Sequence[Path],
    log: Callable[[str], None],
) -> DatasetInfo:
    """Does what `prepare` does, in another process.

    Args:
        reference: the data set.
        root: the folder below which prepared data sets lie.
        code_path: folders that the user's own modules are imported from.
        log: is given each line that the process says, from another thread.

    Raises:
        UsageError, DataError, UnavailableError: as `prepare` says; a process that dies without
            an answer is a `DataError`.
    """
    request = Request(reference=reference, root=root, code_path=tuple(code_path))
    said: deque[str] = deque(maxlen=_KEPT_LINES)

    def hear(line: str) -> None:
        said.append(line)
        log(line)

    with _process(hear) as process:
        process.send(request.model_dump_json())  # to one that died; its exit code says more
        try:
            answer = next(process.lines(first_within_s=_LIMIT_S), b"")
        except TimeoutError as error:
            raise DataError(_late(reference.name, _kept(said, root / _LOG))) from error
        code = process.wait(_GRACE_S)
    if not answer:
        raise DataError(
            f"data set {reference.name!r}: the process preparing it ended before it answered: "
            f"{_how(code)}; {_kept(said, root / _LOG)}"
        )
    return _understood(answer)


@contextmanager
def _process(log: Callable[[str], None]) -> Iterator[Child]:
    """Starts the process, which is gone with all that it started when the block ends."""
    process = Child(_COMMAND, stderr=subprocess.PIPE)
    listener = threading.Thread(target=_pass_on, args=(process.stderr, log), daemon=True)
    listener.start()
    try:
        yield process
    finally:
        process.wait(0)
        listener.join(_GRACE_S)  # a process that left the group may keep the pipe open


def _pass_on(stream: BufferedReader, log: Callable[[str], None]) -> None:
    with TextIOWrapper(stream, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            log(line.rstrip("\n"))


def _late(name: str, kept: str) -> str:
    return (
        f"data set {name!r}: must be prepared within {_LIMIT_S / 3600:g} hours, and was not; "
        f"{kept}; do what takes long beforehand, such as writing its arrays to a file for "
        "`dataset: npz`"
    )


def _how(code: int | None) -> str:
    return "it closed its output and did not end" if code is None else ending_of(code)


def _kept(said: Sequence[str], path: Path) -> str:
    """Writes down what a process said that is gone, and says where; a full disk costs no more."""
    if not said:
        return "it had said nothing"
    text = "\n".join(said)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError:
        return f"it said last:\n{text}"
    return f"what it said is in {path}"


def _understood(answer: bytes) -> DatasetInfo:
    content = json.loads(answer)
    if error := content.get("error"):
        raise _ERRORS.get(error["type"], DataError)(error["message"])
    return DatasetInfo.model_validate(content)


def main() -> None:
    """Answers one request and ends."""
    settle()
    questions, answers = _take_standard_streams()
    with os.fdopen(questions, encoding="utf-8", closefd=False) as lines:
        request = Request.model_validate_json(lines.readline())
    answered = threading.Event()
    threading.Thread(target=_end_with, args=(questions, answered), daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    make_importable(request.code_path)
    with os.fdopen(answers, "w", encoding="utf-8") as lines:
        answer = _answer(request)
        answered.set()
        lines.write(answer + "\n")


def _answer(request: Request) -> str:
    try:
        return prepare(request.reference, request.root).model_dump_json()
    except TunerError as error:
        return json.dumps({"error": {"type": type(error).__name__, "message": str(error)}})


def _take_standard_streams() -> tuple[int, int]:
    """Keeps standard input and output for us; a user's code gets nothing and stderr instead."""
    questions, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return questions, answers


def _end_with(questions: int, answered: threading.Event) -> None:
    """Waits until the process that asked is gone, then ends this process and all it started."""
    while os.read(questions, 1):
        pass
    end_own_group()
    if not answered.is_set():
        os._exit(1)


if __name__ == "__main__":
    main()

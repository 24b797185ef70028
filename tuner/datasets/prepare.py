"""Prepares a data set in its own process, since a user's function may import anything.

`python -m tuner.datasets.prepare` reads a `Request` as one line of JSON from standard input
and answers with one line on standard output: a `DatasetInfo`, or
`{"error": {"type": ..., "message": ...}}`. All other output goes to standard error. The process
ends when its standard input ends, so it never outlives the process that asked.
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
from tuner.startup import configure_process

_COMMAND = (sys.executable, "-P", "-u", "-X", "faulthandler", "-m", "tuner.datasets.prepare")
_LOG, _KEPT_LINES = "prepare.log", 1000
"""The file, below the data sets' folder, with the last lines of a process that died."""
_LIMIT_S = 2 * 3600.0
"""The limit for preparing; a large download and a million pictures take less."""
_GRACE_S = 5.0
"""The limit for the process to end after its answer."""

_ERRORS = {error.__name__: error for error in (DataError, UsageError, UnavailableError)}


class Request(Frozen):
    """A request to prepare a data set."""

    reference: DatasetReference
    root: Path
    code_path: tuple[Path, ...] = ()
    """The folders from which the user's own modules are imported."""


def prepare_apart(
    reference: DatasetReference,
    root: Path,
    code_path: Sequence[Path],
    log: Callable[[str], None],
) -> DatasetInfo:
    """Prepares a data set as `prepare` does, in another process.

    Args:
        reference: the data set.
        root: the folder of the prepared data sets.
        code_path: the folders from which the user's own modules are imported.
        log: receives each line that the process prints, in another thread.

    Raises:
        UsageError, DataError, UnavailableError: see `prepare`; also `DataError` if the process
            dies without an answer or takes longer than two hours.
    """
    request = Request(reference=reference, root=root, code_path=tuple(code_path))
    printed: deque[str] = deque(maxlen=_KEPT_LINES)

    def keep(line: str) -> None:
        printed.append(line)
        log(line)

    with _process(keep) as process:
        process.send(request.model_dump_json())  # no error if it died: its exit code tells more
        try:
            answer = next(process.lines(first_within_s=_LIMIT_S), b"")
        except TimeoutError as error:
            raise DataError(_late(reference.name, _kept(printed, root / _LOG))) from error
        code = process.wait(_GRACE_S)
    if not answer:
        raise DataError(
            f"data set {reference.name!r}: the process preparing it ended before it answered: "
            f"{_how(code)}; {_kept(printed, root / _LOG)}"
        )
    return _parsed(answer)


@contextmanager
def _process(log: Callable[[str], None]) -> Iterator[Child]:
    """Starts the process; when the block ends, so do the process and all that it has started."""
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


def _kept(printed: Sequence[str], path: Path) -> str:
    """Writes the last lines of a process to a file, and says where; or gives them if it cannot."""
    if not printed:
        return "it printed nothing"
    text = "\n".join(printed)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError:
        return f"it last printed:\n{text}"
    return f"its output is in {path}"


def _parsed(answer: bytes) -> DatasetInfo:
    content = json.loads(answer)
    if error := content.get("error"):
        raise _ERRORS.get(error["type"], DataError)(error["message"])
    return DatasetInfo.model_validate(content)


def main() -> None:
    """Answers one request and ends."""
    configure_process()
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
    """Keeps standard input and output; the user's code gets an empty input and standard error."""
    questions, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return questions, answers


def _end_with(questions: int, answered: threading.Event) -> None:
    """Waits until the process that asked is gone, then ends this process and all it has started."""
    while os.read(questions, 1):
        pass
    end_own_group()
    if not answered.is_set():
        os._exit(1)


if __name__ == "__main__":
    main()

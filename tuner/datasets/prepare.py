"""Prepares a data set in its own process, since a user's function may import anything.

`python -m tuner.datasets.prepare` reads a `Request` as one line of JSON from standard input
and answers with one line on standard output (`tuner.children.answer_one`): a `DatasetInfo` or a
`Refused`.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from tuner.children import DiedError, answer_one, ask
from tuner.datasets.store import DatasetInfo, prepare
from tuner.errors import DataError
from tuner.references import make_importable
from tuner.spec.section import Frozen
from tuner.spec.study_spec import DatasetReference
from tuner.startup import configure_process

_PROCESS = ("-X", "faulthandler", "-m", "tuner.datasets.prepare")
_LOG, _KEPT_LINES = "prepare.log", 1000
"""The file, below the data sets' folder, with the last lines of a process that died."""
_LIMIT_S = 2 * 3600.0
"""The limit for preparing; a large download and a million pictures take less."""


class Request(Frozen):
    """A request to prepare a data set."""

    reference: DatasetReference
    root: Path
    code_path: tuple[Path, ...] = ()
    """The folders from which the user's own modules are imported."""


def prepare_apart(
    reference: DatasetReference, root: Path, code_path: Sequence[Path], log: Callable[[str], None]
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

    try:
        return ask(_PROCESS, request, DatasetInfo, within_s=_LIMIT_S, output=keep)
    except TimeoutError as error:
        raise DataError(_late(reference.name, _kept(printed, root / _LOG))) from error
    except DiedError as error:
        raise DataError(
            f"data set {reference.name!r}: the process preparing it ended before it answered: "
            f"{error}; {_kept(printed, root / _LOG)}"
        ) from error


def _late(name: str, kept: str) -> str:
    return (
        f"data set {name!r}: must be prepared within {_LIMIT_S / 3600:g} hours, and was not; "
        f"{kept}; do what takes long beforehand, such as writing its arrays to a file for "
        "`dataset: npz`"
    )


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


def main() -> None:
    """Answers one request and ends."""
    configure_process()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    answer_one(_answer)


def _answer(line: bytes) -> DatasetInfo:
    request = Request.model_validate_json(line)
    make_importable(request.code_path)
    return prepare(request.reference, request.root)


if __name__ == "__main__":
    main()

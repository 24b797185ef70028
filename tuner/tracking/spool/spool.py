"""The spool: a study's events on disk, one JSON line each, until MLflow has them.

    STUDY/parent/spool.jsonl                      what becomes the parent run
    STUDY/attempts/<slot>-<attempt>/spool.jsonl   what becomes one child run

Owns the file format. A spool has one writer, which only appends. A line counts once its newline
is written. Bytes after the last newline are an interrupted write: readers ignore them, and the
next writer removes them.
"""

import hashlib
import json
import os
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from tuner.errors import UnavailableError
from tuner.files import is_same_file
from tuner.tracking.spool.spool_events import (
    AttemptAbandoned,
    AttemptEnded,
    AttemptStarted,
    Event,
    ModelKept,
    StudyClosed,
    StudyOpened,
    event_adapter,
)

FILE_NAME = "spool.jsonl"
NO_EVENT = "not an event"
"""The beginning of the reason for a line that cannot be read."""

_KIND = re.compile(rb'{"kind": "([^"]*)"')
OPENINGS = ("study-opened", "attempt-started", "attempt-abandoned")
"""Kinds of events that identify the spool's run."""
OF_OTHERS = ("attempt-abandoned", "model-kept", "model-displaced")
"""Kinds of events that a spool may have of an attempt that this home did not begin."""
_SYNCED = (StudyOpened, StudyClosed, AttemptStarted, AttemptEnded)


def parent_folder(study_folder: Path) -> Path:
    """The folder of the spool that becomes the parent run."""
    return study_folder / "parent"


def is_parent(folder: Path) -> bool:
    """Whether the spool in the folder becomes the parent run."""
    return folder.name == "parent"


def attempt_folder(study_folder: Path, slot: int, attempt: int) -> Path:
    """The folder of the spool that becomes the child run of one attempt."""
    return study_folder / "attempts" / f"{slot}-{attempt}"


def slot_of(folder: Path) -> str:
    """The part of the folder's name that is the same for all attempts of a slot."""
    return folder.name.partition("-")[0]


def spool_folders(study_folder: Path, known: Container[Path] = ()) -> list[Path]:
    """Every folder with a spool: the parent's, then those of attempts by slot and number.

    Args:
        study_folder: the study's folder.
        known: folders to leave out, which saves looking at them.
    """
    attempts = (study_folder / "attempts").glob("*")
    fresh = sorted((folder for folder in attempts if folder not in known), key=_slot_and_attempt)
    parent = parent_folder(study_folder)
    folders = fresh if parent in known else [parent, *fresh]
    return [folder for folder in folders if (folder / FILE_NAME).exists()]


def _slot_and_attempt(folder: Path) -> tuple[list[int], str]:
    return [int(part) for part in folder.name.split("-") if part.isdigit()], folder.name


def encode(event: Event) -> bytes:
    """One line of JSON, the kind first. Keeps NaN and infinity, which pydantic makes null."""
    return json.dumps(event.model_dump(mode="json")).encode() + b"\n"


class SpoolWriter:
    """Appends events to the spool in `folder`, which is created if need be.

    When `append` returns, the operating system has the event, so it survives the end of this
    process. The first and last events of runs are on the disk by then.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE_NAME
        self._file = self.path.open("ab", buffering=0)
        os.ftruncate(self._file.fileno(), _last_line_end(self.path))

    def append(self, event: Event) -> None:
        """Writes `event` as a whole or not at all.

        Raises:
            UnavailableError: the disk is full or gone; the spool is unchanged.
        """
        start = self.path.stat().st_size
        try:
            self._write(encode(event))
            if isinstance(event, _SYNCED):
                os.fsync(self._file.fileno())
        except OSError as error:
            os.ftruncate(self._file.fileno(), start)
            raise UnavailableError(
                f"{self.path}: cannot append {event.kind}: {error.strerror}"
            ) from error

    @property
    def is_gone(self) -> bool:
        """Whether the file was deleted, or replaced, since it was opened."""
        return not is_same_file(self.path, self._file)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        while rest:
            rest = rest[self._file.write(rest) :]


def _last_line_end(path: Path) -> int:
    return path.read_bytes().rfind(b"\n") + 1


@dataclass(frozen=True)
class SpoolLine:
    """One complete line of a spool; `end` is the offset in bytes after it."""

    text: bytes
    end: int
    folder: Path

    @property
    def kind(self) -> str:
        """The event's kind, without parsing the rest; empty if there is none."""
        start = _KIND.match(self.text)
        return start[1].decode(errors="replace") if start else ""

    def event(self) -> Event:
        """The line's event, without keys that only a newer version of tuner knows.

        Raises:
            ValidationError: pydantic's, if the line is no event.
        """
        return _located(event_adapter.validate_json(self.text, extra="ignore"), self.folder)

    def event_or_error(self) -> Event | ValidationError:
        """The event, or the error if a disk damaged the line or a newer version wrote it."""
        try:
            return self.event()
        except ValidationError as error:
            return error


def read_lines(folder: Path, offset: int) -> Iterator[SpoolLine]:
    """Yields the complete lines after `offset` bytes; none if there is no spool."""
    path = folder / FILE_NAME
    try:
        if path.stat().st_size <= offset:
            return
    except FileNotFoundError:
        return
    with path.open("rb") as file:
        file.seek(offset)
        for text in file:
            if not text.endswith(b"\n"):
                return
            offset += len(text)
            yield SpoolLine(text, offset, folder)


def _located(event: Event, folder: Path) -> Event:
    """The event with the present path of its file, which is beside the spool after a move."""
    if isinstance(event, ModelKept):
        return event.model_copy(update={"path": _moved(event.path, folder)})
    if isinstance(event, AttemptEnded) and event.log is not None:
        return event.model_copy(update={"log": _moved(event.log, folder)})
    return event


def _moved(file: Path, folder: Path) -> Path:
    here = folder / file.name
    moved = os.path.exists(here) and not os.path.exists(file)  # noqa: PTH110 - raises not
    return here if moved else file


def read_events(folder: Path, offset: int = 0) -> tuple[list[Event], int]:
    """Returns the events after `offset` bytes, and the offset at which to continue later.

    Leaves out lines that cannot be read.
    """
    lines = list(read_lines(folder, offset))
    read = (line.event_or_error() for line in lines)
    events = [event for event in read if not isinstance(event, ValidationError)]
    return events, lines[-1].end if lines else offset


def openings(folder: Path) -> Iterator[StudyOpened | AttemptStarted | AttemptAbandoned]:
    """The events that identify the spool's run: usually the first line, unless it was damaged."""
    for line in read_lines(folder, 0):
        event = line.event_or_error() if line.kind in OPENINGS else None
        if isinstance(event, StudyOpened | AttemptStarted | AttemptAbandoned):
            yield event


def is_begun(folder: Path) -> bool:
    """Whether the spool has an event that identifies its run."""
    return next(openings(folder), None) is not None


def is_own(folder: Path) -> bool:
    """Whether the spool is of an attempt that this home began."""
    return any(line.kind not in OF_OTHERS for line in read_lines(folder, 0))


def first_line_digest(folder: Path) -> str:
    """A digest that distinguishes this spool from a later one; empty without a complete line."""
    first = next(read_lines(folder, 0), None)
    return "" if first is None else hashlib.sha256(first.text).hexdigest()[:16]

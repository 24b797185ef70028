"""Files: safe names, atomic replacement, and locks between processes."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from tuner.errors import encodable

_log = logging.getLogger(__name__)


PARTIAL = ".partial-"
"""How the names of files begin that `replaced` has not finished. Killed writers leave them."""


def stays_inside(path: str) -> bool:
    """Whether a relative path with forward slashes stays inside the folder that it is joined to.

    It must be valid text, and no part may be empty, `.` or `..`.
    """
    parts = path.split("/")
    return path == encodable(path) and {"", ".", ".."}.isdisjoint(parts)


def is_folder_name(name: str) -> bool:
    """Whether the name is that of a direct subfolder of any folder."""
    return "/" not in name and stays_inside(name)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yields a temporary path, whose file replaces `path` if the block ends without an error.

    A reader sees the old file or the new one. Only one process may write at a time: the temporary
    name is fixed, so that the next writer overwrites the leftover of a killed one.
    """
    partial = path.with_name(PARTIAL + path.name)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for writing that replaces `path`, see `replaced`, after it is on the disk."""
    with replaced(path) as partial, durable(partial) as handle:
        yield handle


@contextmanager
def durable(path: Path) -> Iterator[BinaryIO]:
    """Opens `path` for writing. The content is on the disk when the block ends."""
    with path.open("wb") as handle:
        yield handle
        handle.flush()
        os.fsync(handle.fileno())


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds the lock file `path` inside the block; waits while another process holds it.

    The operating system releases the lock when the process ends. The empty file stays: if it was
    removed, two processes could lock two files with the same name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        if not try_lock(file):
            _log.info("waiting for another process that holds %s", path)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def try_lock(file: IO[bytes]) -> bool:
    """Locks an open file until it is closed. Returns False if another process holds the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_same_file(path: Path, file: IO[bytes]) -> bool:
    """Whether `path` is still the open file, and was not removed or replaced meanwhile."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False

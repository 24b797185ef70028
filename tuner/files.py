"""Files: names that may become one, replacing one in a single step, and locks between processes."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from tuner.errors import encodable

_log = logging.getLogger(__name__)


def stays_below(path: str) -> bool:
    """Whether a relative path with forward slashes lies below whatever folder it is put into.

    It is text that a file system takes, and none of its parts is empty, `.` or `..`.
    """
    parts = path.split("/")
    return path == encodable(path) and {"", ".", ".."}.isdisjoint(parts)


def is_folder_name(name: str) -> bool:
    """Whether it names one folder, right below the one that it is put into."""
    return "/" not in name and stays_below(name)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Gives a path beside `path`; its file replaces `path` when the block ends without an error.

    A reader sees the old file or the new one. There is one writer at a time: the temporary name is
    fixed, so that what a killed process left is overwritten by the next one.
    """
    partial = path.with_name(f".partial-{path.name}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that replaces `path` as `replaced` does, once it is on the disk."""
    with replaced(path) as partial, durable(partial) as handle:
        yield handle


@contextmanager
def durable(path: Path) -> Iterator[BinaryIO]:
    """Opens `path` for writing; what was written is on the disk when the block ends."""
    with path.open("wb") as handle:
        yield handle
        handle.flush()
        os.fsync(handle.fileno())


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds the lock on `path` among all processes of this machine; waits for the one that has it.

    The lock goes when its holder does, however it ends; the empty file stays, because
    removing it would let two processes hold two files of one name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        if not try_lock(file):
            _log.info("waiting for another process that holds %s", path)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def try_lock(file: IO[bytes]) -> bool:
    """Locks an open file until it is closed, unless another process holds it; whether it did."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def leads_to(path: Path, file: IO[bytes]) -> bool:
    """Whether `path` still leads to the open file, which may have been removed meanwhile."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False

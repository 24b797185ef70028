"""Files that appear whole or not at all, and the lock that lets one process write them."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tuner.errors import encodable


def stays_below(path: str) -> bool:
    """Whether a relative path with forward slashes lies below whatever folder it is put into.

    It is text that a file system takes, and none of its parts is empty, `.` or `..`.
    """
    parts = path.split("/")
    return path == encodable(path) and {"", ".", ".."}.isdisjoint(parts)


def is_folder_name(name: str) -> bool:
    """Whether it names one folder, right below the one that it is put into."""
    return "/" not in name and stays_below(name)


_log = logging.getLogger(__name__)


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Holds `lock` among all processes of this machine, waiting for the one that has it.

    The lock goes when its holder does, however it ends; the empty file stays, because
    removing it would let two processes hold two files of one name.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.info("waiting for another process that holds %s", lock)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def durable(path: Path) -> Iterator[BinaryIO]:
    """Opens `path` for writing; what was written is on the disk when the block ends."""
    with path.open("wb") as handle:
        yield handle
        handle.flush()
        os.fsync(handle.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that takes the place of `path` when the block ends without an error.

    The caller holds a lock: the temporary file has a fixed name, so that what a killed
    process left is overwritten by the next one.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with durable(partial) as handle:
            yield handle
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

"""The lock that a driver holds while it works on a study in a home folder."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuner.errors import RefusedError
from tuner.home import Home


@contextmanager
def only_driver(home: Home, study: str) -> Iterator[None]:
    """Holds the lock, since a spool has one writer. It goes when its holder does.

    Raises:
        RefusedError: another driver holds it.
    """
    path = _path(home, study)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as lock:
        if not _taken_soon(lock.fileno()):
            raise RefusedError(
                f"study {study!r} is running on this machine already; "
                f"look at it with: tuner show {study}, or end it with: tuner stop {study}"
            )
        yield


def is_driven_here(home: Home, study: str) -> bool:
    """Whether a driver holds the lock."""
    path = _path(home, study)
    if not path.exists():
        return False
    with path.open("ab") as lock:
        return not _taken(lock.fileno())


def _path(home: Home, study: str) -> Path:
    return home.study(study) / "driver.lock"


def _taken_soon(lock: int) -> bool:
    """Tries for a second, since whoever only looks holds the lock for a moment too."""
    deadline = time.monotonic() + 1
    while not _taken(lock):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

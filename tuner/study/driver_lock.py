"""The lock of a study in a home folder: a driver holds it while it works on the study."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuner.errors import RefusedError
from tuner.files import is_same_file, try_lock
from tuner.home import Home
from tuner.words import command

_RETRY_FOR_S = 1.0
"""`is_driven_here` in another process holds the lock for a moment."""
_PAUSE_S = 0.05


@contextmanager
def only_driver(home: Home, study: str) -> Iterator[None]:
    """Holds the lock inside the block, since a spool has one writer.

    The operating system releases the lock when the process ends.

    Raises:
        RefusedError: another driver holds it.
    """
    path = _path(home, study)
    deadline = time.monotonic() + _RETRY_FOR_S
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as lock:
            if try_lock(lock) and is_same_file(path, lock):
                yield
                return
        if time.monotonic() > deadline:
            raise RefusedError(
                f"study {study!r} is running on this machine already; "
                f"show it with: {command('show', study)}, or stop it with: {command('stop', study)}"
            )
        time.sleep(_PAUSE_S)


def is_driven_here(home: Home, study: str) -> bool:
    """Whether another process holds the lock."""
    path = _path(home, study)
    if not path.exists():
        return False
    with path.open("ab") as lock:
        return not try_lock(lock)


def _path(home: Home, study: str) -> Path:
    return home.study(study) / "driver.lock"

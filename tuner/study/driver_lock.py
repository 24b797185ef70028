"""The lock that a driver holds while it works on a study in a home folder."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuner.errors import RefusedError
from tuner.files import leads_to, try_lock
from tuner.home import Home

_PATIENCE_S = 1.0
"""A process that only looks holds the lock for a moment too."""
_PAUSE_S = 0.05


@contextmanager
def only_driver(home: Home, study: str) -> Iterator[None]:
    """Holds the lock, since a spool has one writer. It goes when its holder does.

    Raises:
        RefusedError: another driver holds it.
    """
    path = _path(home, study)
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as lock:
            if try_lock(lock) and leads_to(path, lock):
                yield
                return
        if time.monotonic() > deadline:
            raise RefusedError(
                f"study {study!r} is running on this machine already; "
                f"look at it with: tuner show {study}, or end it with: tuner stop {study}"
            )
        time.sleep(_PAUSE_S)


def is_driven_here(home: Home, study: str) -> bool:
    """Whether a driver holds the lock."""
    path = _path(home, study)
    if not path.exists():
        return False
    with path.open("ab") as lock:
        return not try_lock(lock)


def _path(home: Home, study: str) -> Path:
    return home.study(study) / "driver.lock"

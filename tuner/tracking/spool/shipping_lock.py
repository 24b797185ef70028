"""The lock that lets one process at a time ship the spools of a study folder.

It is a lock on the file `shipper.lock` in the folder, and counts while that very file exists. So
removing the file, or the folder, dismisses the process that ships, whatever is created at the same
path later. A shipper may outlive the driver that started it while it has something to ship.
Imports no MLflow.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO

from tuner.errors import RefusedError
from tuner.files import is_same_file, try_lock

_FILE_NAME = "shipper.lock"
_PATIENCE_S = 60.0
"""Longer than one call to a silent MLflow, after which a shipper checks the lock."""
_PAUSE_S = 0.05


class ShippingLock:
    """This process's lock on the spools in `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / _FILE_NAME
        self._file: IO[bytes] | None = None
        self.dismissed = False
        """Whether the folder was removed, or another process wants the spools."""

    @property
    def held(self) -> bool:
        """Whether this process holds the lock and has not been dismissed."""
        if self._file is not None and not is_same_file(self.path, self._file):
            self.dismissed = True
        return self._file is not None and not self.dismissed

    def take(self) -> bool:
        """Takes the lock if it is free. Returns whether this process holds it."""
        if self._file is None and not self.dismissed:
            try:
                file = self.path.open("ab")
            except FileNotFoundError:
                self.dismissed = True
                return False
            if try_lock(file) and is_same_file(self.path, file):
                self._file = file
            else:
                file.close()
        return self.held

    def close(self) -> None:
        """Releases the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None


@contextmanager
def nobody_ships(study_folder: Path) -> Iterator[None]:
    """Dismisses the shippers of spools below `study_folder`; none begins during the block.

    Raises:
        RefusedError: a shipper does not end.
    """
    locks = [ShippingLock(path.parent) for path in sorted(study_folder.rglob(_FILE_NAME))]
    deadline = time.monotonic() + _PATIENCE_S
    try:
        for lock in locks:
            while not lock.take():
                _dismiss_holder(lock.path, deadline)
        yield
    finally:
        for lock in locks:
            lock.close()


@contextmanager
def no_shipper(study_folders: Iterable[Path]) -> Iterator[None]:
    """Keeps shippers from working on these folders during the block; new ones wait.

    Raises:
        RefusedError: a shipper is at work.
    """
    with ExitStack() as stack:
        for folder in filter(Path.exists, study_folders):
            if not stack.enter_context(closing(ShippingLock(folder))).take():
                raise RefusedError(
                    f"MLflow: artifacts are not moved while the events in {folder} are being "
                    "shipped; wait until the shipper process has ended (a minute at most "
                    "once its driver has gone), then try again"
                )
        yield


def _dismiss_holder(path: Path, deadline: float) -> None:
    """Returns once the holder has released the lock.

    Raises:
        RefusedError: it has not after `deadline`, in `time.monotonic()`.
    """
    with path.open("ab") as held:
        path.unlink(missing_ok=True)
        while not try_lock(held):
            if time.monotonic() > deadline:
                raise RefusedError(
                    f"{path.parent}: the process that ships its events to MLflow does not end; "
                    "try again, or end that process first"
                )
            time.sleep(_PAUSE_S)

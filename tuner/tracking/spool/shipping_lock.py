"""The right to ship the spools of one study folder: one process has it at a time.

It is a lock on the file `shipper.lock` in the folder, and holds for as long as that very file is
there. So a process that ships is dismissed by the removal of the file, or of the folder with it,
whatever may come to lie at the same path later. A process that ships outlives the driver that
started it for as long as it has something to ship. Imports no MLflow.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO

from tuner.errors import RefusedError
from tuner.files import leads_to, try_lock

_FILE_NAME = "shipper.lock"
_PATIENCE_S = 60.0
"""More than one call to a silent MLflow takes, after which a shipper looks whether to go on."""
_PAUSE_S = 0.05


class ShippingLock:
    """This process's claim on the right to ship the spools in `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / _FILE_NAME
        self._file: IO[bytes] | None = None
        self.dismissed = False
        """Whether the folder was removed or another process has asked for the spools."""

    @property
    def held(self) -> bool:
        """Whether this process has the right, and has not been dismissed."""
        if self._file is not None and not leads_to(self.path, self._file):
            self.dismissed = True
        return self._file is not None and not self.dismissed

    def take(self) -> bool:
        """Takes the right if nobody has it; whether this process has it then."""
        if self._file is None and not self.dismissed:
            try:
                file = self.path.open("ab")
            except FileNotFoundError:
                self.dismissed = True
                return False
            if try_lock(file) and leads_to(self.path, file):
                self._file = file
            else:
                file.close()
        return self.held

    def close(self) -> None:
        """Lets the next one in."""
        if self._file is not None:
            self._file.close()
            self._file = None


@contextmanager
def nobody_ships(study_folder: Path) -> Iterator[None]:
    """Dismisses the processes that ship spools below `study_folder`; none starts in the block.

    Raises:
        RefusedError: a process that ships does not let go.
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
    """Lets no shipper work on any of these folders inside the block; those that start wait.

    Raises:
        RefusedError: one is at work.
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
    """Returns once the holder has let go."""
    with path.open("ab") as held:
        path.unlink(missing_ok=True)
        while not try_lock(held):
            if time.monotonic() > deadline:
                raise RefusedError(
                    f"{path.parent}: the process that ships its events to MLflow does not end; "
                    "try again, or end that process first"
                )
            time.sleep(_PAUSE_S)

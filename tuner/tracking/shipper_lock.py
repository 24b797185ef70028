"""The lock that lets one shipper at a time work on a study folder. Imports no MLflow.

It goes when its holder does. A shipper outlives the driver that started it for as long as it has
something to ship.
"""

import fcntl
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from tuner.errors import RefusedError

_FILE = "shipper.lock"


def lock_file(study_folder: Path) -> IO[bytes]:
    """The open file that is locked; the folder exists."""
    return (study_folder / _FILE).open("ab")


def taken(lock: IO[bytes]) -> bool:
    """Takes the lock; False where another process has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def no_shipper(study_folders: Iterable[Path]) -> Iterator[None]:
    """Lets no shipper work on any of these folders inside the block; those that start wait.

    Raises:
        RefusedError: one is at work.
    """
    with ExitStack() as stack:
        for folder in filter(Path.exists, study_folders):
            if not taken(stack.enter_context(lock_file(folder))):
                raise RefusedError(
                    f"MLflow: artifacts are not moved while the events in {folder} are being "
                    "shipped; wait until that process, tuner.tracking.shipper, has ended (a minute "
                    "at most once its driver has gone), then try again"
                )
        yield

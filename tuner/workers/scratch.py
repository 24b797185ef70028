"""A folder for one process, which the next one removes if its owner could not."""

import fcntl
import shutil
import tempfile
from pathlib import Path

_LOCK = "in-use"


class Scratch:
    """A folder among the machine's temporary ones."""

    def __init__(self, prefix: str) -> None:
        """Makes it, and removes those of this prefix whose owners are dead."""
        for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
            _remove_if_abandoned(folder)
        made = Path(tempfile.mkdtemp(prefix=f"new-{prefix}"))
        self._lock = (made / _LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.folder = made.rename(made.with_name(made.name.removeprefix("new-")))

    def remove(self) -> None:
        """Removes it with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def _remove_if_abandoned(folder: Path) -> None:
    try:
        with (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # in use, another user's, or gone by now
        return

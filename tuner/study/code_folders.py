"""Which of a study's code folders count on this machine.

The database says where the user's modules lay on the machine that ran or submitted the study.
Whoever can write to a database that is shared can name any folder there. So of such a database
only those folders count that were chosen on this machine: they lie in the folder that the
process was started in, or on `PYTHONPATH`. The database of the state folder is trusted as that
folder is.
"""

import os
from collections.abc import Iterable
from pathlib import Path


def folders_here(recorded: Iterable[Path]) -> tuple[Path, ...]:
    """The folders that a study's modules are imported from in this process.

    Args:
        recorded: those that the database names, of this machine or of another one.

    Returns:
        Those that are there, may be looked into and count, then the current one.
    """
    found = (folder for folder in recorded if os.path.isdir(folder))  # noqa: PTH112 - raises not
    return tuple(dict.fromkeys((*filter(_counts, found), Path.cwd())))


def _counts(folder: Path) -> bool:
    if not os.environ.get("TUNER_STORAGE_URL"):
        return True
    listed = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    chosen = [Path.cwd(), *(Path(entry).absolute() for entry in listed if entry)]
    return any(folder.resolve().is_relative_to(each.resolve()) for each in chosen)

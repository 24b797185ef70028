"""Which of a study's code folders count on this machine.

The database says where the user's modules lay on the machine that ran or submitted the study.
Anyone who can write to a database that is shared can name any folder there. So of such a database
only those folders count that were chosen on this machine: they lie in the folder that the
process was started in, or on `PYTHONPATH`. What lies there hidden, or is a Python with its
packages, was not meant by that. The database of the state folder is trusted as that folder is.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from tuner.references import is_installed


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
    return any(_is_chosen(folder.resolve(), each.resolve()) for each in chosen)


def _is_chosen(folder: Path, above: Path) -> bool:
    """Whether it is the folder above, or lies there and is nothing that programs put there."""
    between = [each for each in (folder, *folder.parents) if above in each.parents]
    return folder.is_relative_to(above) and not any(map(_is_of_a_program, between))


def _is_of_a_program(folder: Path) -> bool:
    """Whether the folder is hidden, or is a Python, its environment, library or packages."""
    marks = ("pyvenv.cfg", "bin/python3", "os.py")
    has_python = any((folder / mark).exists() for mark in marks)
    return folder.name.startswith(".") or is_installed(folder) or has_python

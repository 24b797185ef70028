"""The folders of a study's code that are trusted on this machine.

The database stores the code folders of the machine that ran or submitted the study. Anyone with
write access to a shared database can store any folder. So folders from a shared database are used
only inside the current folder or a folder on `PYTHONPATH`. Hidden folders, Python installations
and their packages are excluded. The local database in the home folder is trusted.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from tuner.references import is_installed


def folders_here(recorded: Iterable[Path]) -> tuple[Path, ...]:
    """Returns the folders that a study's modules are imported from in this process.

    Args:
        recorded: the folders in the database, of this or of another machine.

    Returns:
        The existing, readable and trusted ones, then the current folder.
    """
    found = (folder for folder in recorded if os.path.isdir(folder))  # noqa: PTH112 - never raises
    return tuple(dict.fromkeys((*filter(_is_trusted, found), Path.cwd())))


def _is_trusted(folder: Path) -> bool:
    if not os.environ.get("TUNER_STORAGE_URL"):
        return True
    listed = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    chosen = [Path.cwd(), *(Path(entry).absolute() for entry in listed if entry)]
    return any(_is_users(folder.resolve(), each.resolve()) for each in chosen)


def _is_users(folder: Path, above: Path) -> bool:
    """Whether the folder is `above` or inside it, and not part of an installed program."""
    between = [each for each in (folder, *folder.parents) if above in each.parents]
    return folder.is_relative_to(above) and not any(map(_is_of_a_program, between))


def _is_of_a_program(folder: Path) -> bool:
    """Whether the folder is hidden, or a Python installation, environment or package folder."""
    marks = ("pyvenv.cfg", "bin/python3", "os.py")
    has_python = any((folder / mark).exists() for mark in marks)
    return folder.name.startswith(".") or is_installed(folder) or has_python

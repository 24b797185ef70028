"""Which names may become files and folders.

Names come from a database or a spool that others can write to as well. One that led out of the
folder that it is put into would let them read or replace any file of the machine.
"""

from tuner.errors import encodable


def stays_below(path: str) -> bool:
    """Whether a relative path with forward slashes lies below whatever folder it is put into.

    It is text that a file system takes, and none of its parts is empty, `.` or `..`.
    """
    parts = path.split("/")
    return path == encodable(path) and {"", ".", ".."}.isdisjoint(parts)


def is_folder_name(name: str) -> bool:
    """Whether it names one folder, right below the one that it is put into."""
    return "/" not in name and stays_below(name)

"""The account that this process runs under."""

import getpass
import os

from tuner.errors import encodable


def user() -> str:
    """Returns the user's name, or number if there is no name, as in a container."""
    try:
        return encodable(getpass.getuser())
    except (KeyError, OSError):  # OSError from Python 3.13 on
        return str(os.getuid())

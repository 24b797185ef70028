"""Suggested next commands, as they work in the user's shell."""

import shlex
import shutil
import sys
from pathlib import Path


def program() -> str:
    """Returns `tuner` if the shell finds this program by that name, or else its path as typed."""
    typed = Path(sys.argv[0])
    found = shutil.which("tuner")
    if found is not None and Path(found).resolve() == typed.resolve():
        return "tuner"
    if typed.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m tuner"
    return shlex.quote(sys.argv[0])


def same_command() -> str:
    """Returns the current command line, quoted for the shell."""
    return f"{program()} {shlex.join(sys.argv[1:])}"

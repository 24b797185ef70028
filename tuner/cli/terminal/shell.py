"""Suggested next commands, as they work in the user's shell."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tuner.words import command


def program() -> str:
    """Returns `tuner` if the shell finds this program by that name, or else its path as typed."""
    typed = Path(sys.argv[0])
    found = shutil.which("tuner")
    if found is not None and Path(found).resolve() == typed.resolve():
        return "tuner"
    if typed.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m tuner"
    return shlex.quote(sys.argv[0])


def next_command(name: str, *arguments: str, options: Sequence[str] = ()) -> str:
    """Returns a command of this program, see `tuner.words.command`."""
    return command(name, *arguments, options=options, program=program())


def same_command() -> str:
    """Returns the current command line, quoted for the shell."""
    return f"{program()} {shlex.join(sys.argv[1:])}"

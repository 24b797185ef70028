"""What to type next, in words that work in the shell that this command was typed in."""

import shlex
import shutil
import sys
from pathlib import Path


def program() -> str:
    """`tuner` where the shell finds this very program by that name, else its path as typed."""
    typed = Path(sys.argv[0])
    found = shutil.which("tuner")
    if found is not None and Path(found).resolve() == typed.resolve():
        return "tuner"
    if typed.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m tuner"
    return shlex.quote(sys.argv[0])


def same_command() -> str:
    """The command that is running, as it can be typed again."""
    return f"{program()} {shlex.join(sys.argv[1:])}"

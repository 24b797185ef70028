"""Where a study's code came from: git revision, uncommitted difference, user, host.

Git is asked as little as will do, and runs nothing that the folder's own configuration names:
no file system monitor, hook, filter, or program that shows differences. It fetches nothing either,
since how a partial clone is completed is named there too.
"""

import getpass
import os
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

_MOST_DIFF_BYTES = 1_000_000
_WANTS_DIFF = "TUNER_RECORD_DIFF"
_PROGRAMS = re.compile(r"filter\..*\.(clean|smudge|process)|diff\..*\.(command|textconv)")
_REQUIRED = re.compile(r"filter\..*\.required")
_OFF = {"core.fsmonitor": "false", "core.hooksPath": os.devnull, "diff.external": ""}
_NO_TRANSPORT = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": ""}
"""The second one holds for every git: of an empty list no protocol is one."""
_DIFF = ("diff", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all")


@dataclass(frozen=True)
class Provenance:
    """What is known of the code in a folder; empty strings where git knows nothing."""

    revision: str
    uncommitted: str
    """`git diff HEAD`, cut at 1 MB; empty unless `TUNER_RECORD_DIFF` asks for it."""
    dirty: bool
    """Whether anything in the work tree is not what the revision holds, or git cannot tell."""

    def tags(self) -> dict[str, str]:
        """MLflow's own names where it has them."""
        tags = {
            "mlflow.user": _user(),
            "mlflow.source.type": "LOCAL",
            "tuner.host": socket.gethostname(),
            "tuner.version": version("tuner"),
        }
        if self.revision:
            tags["mlflow.source.git.commit"] = self.revision
            tags["tuner.git.dirty"] = str(self.dirty).lower()
        return tags


def provenance(folder: Path) -> Provenance:
    """Asks git about the work tree that `folder` lies in, if it lies in one.

    A difference may hold anything that was typed into a tracked file, passwords too. So it is
    recorded where the variable `TUNER_RECORD_DIFF` is 1 alone.
    """
    revision = (_git(folder, "rev-parse", "HEAD") or "").strip()
    if not revision:
        return Provenance("", "", dirty=False)
    off = _programs_off(folder)
    changed = _git(folder, *off, *_DIFF, "--name-only", "HEAD")
    untracked = _git(folder, *off, "ls-files", "--others", "--exclude-standard")
    wanted = os.environ.get(_WANTS_DIFF) == "1"
    uncommitted = (_git(folder, *off, *_DIFF, "HEAD") or "") if wanted else ""
    return Provenance(
        revision, uncommitted[:_MOST_DIFF_BYTES], dirty=changed != "" or untracked != ""
    )


def _programs_off(folder: Path) -> list[str]:
    """Options that make git run no program that its configuration names."""
    stated = (_git(folder, "config", "--list", "--name-only", "-z") or "").split("\0")
    off = _OFF | {name: "" for name in stated if _PROGRAMS.fullmatch(name)}
    off |= {name: "false" for name in stated if _REQUIRED.fullmatch(name)}
    return [part for name, value in off.items() for part in ("-c", f"{name}={value}")]


def _user() -> str:
    """Who runs this; the number of a user without a name, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None where it fails, is not installed, or the folder is not under it."""
    git = shutil.which("git")
    if git is None:
        return None
    ours = {name: value for name, value in os.environ.items() if name != "GIT_EXTERNAL_DIFF"}
    asked = subprocess.run(
        [git, "--no-optional-locks", "-C", str(folder), *arguments],
        env=ours | _NO_TRANSPORT,
        capture_output=True,
        check=False,
        text=True,
        errors="replace",
    )
    return asked.stdout if asked.returncode == 0 else None

"""Provenance of a study's code: git revision, uncommitted changes, user, host.

Git runs no program that the folder's own configuration names: no file system monitor, hook,
filter, or diff program. It fetches nothing, since that configuration also names how a partial clone
is completed.
"""

import os
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from tuner.account import user

_MOST_DIFF_BYTES = 1_000_000
_WANTS_DIFF = "TUNER_RECORD_DIFF"
_PROGRAMS = re.compile(r"filter\..*\.(clean|smudge|process)|diff\..*\.(command|textconv)")
_REQUIRED = re.compile(r"filter\..*\.required")
_OFF = {"core.fsmonitor": "false", "core.hooksPath": os.devnull, "diff.external": ""}
_NO_TRANSPORT = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": ""}
"""The second variable works for every version of git: an empty list allows no protocol."""
_DIFF = ("diff", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all")


@dataclass(frozen=True)
class Provenance:
    """What git says of the code in a folder; empty strings for a folder without git."""

    revision: str
    uncommitted: str
    """`git diff HEAD`, cut at 1 MB; empty unless `TUNER_RECORD_DIFF` asks for it."""
    dirty: bool
    """Whether the work tree differs from the revision, or git cannot say."""

    def tags(self) -> dict[str, str]:
        """The tags of a run, under MLflow's own names where it has them."""
        tags = {
            "mlflow.user": user(),
            "mlflow.source.type": "LOCAL",
            "tuner.host": socket.gethostname(),
            "tuner.version": _version(),
        }
        if self.revision:
            tags["mlflow.source.git.commit"] = self.revision
            tags["tuner.git.dirty"] = str(self.dirty).lower()
        return tags


@cache
def _version() -> str:
    """The version of tuner, which is read from a file."""
    return version("tuner")


UNKNOWN = Provenance("", "", dirty=False)
"""For code that is not in git, or not needed."""


def provenance(folder: Path) -> Provenance:
    """Asks git about the work tree that contains `folder`.

    Uncommitted changes may contain anything, passwords too. They are recorded only if the variable
    `TUNER_RECORD_DIFF` is 1.
    """
    revision = (_git(folder, "rev-parse", "HEAD") or "").strip()
    if not revision:
        return UNKNOWN
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


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None if it fails, is not installed, or the folder is not in git."""
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

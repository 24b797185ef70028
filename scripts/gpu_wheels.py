"""Collects what a machine without a network lacks to prove tuner on its GPU: `scripts/gpu-proof`.

    scripts/gpu-proof collect --wheels FOLDER

Into FOLDER come the wheels for Python 3.12 in the locked versions, tuner's own among them, MNIST,
and the git revision. That machine has what `PROVIDED` names. The folder travels with a copy of
the repository, so its size is limited.
"""

import argparse
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks import machine
from tuner.datasets.builtin.mnist import published

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements-dev.lock"
MOST_MB = 58

PROVIDED = {
    "absl-py", "aiohappyeyeballs", "aiohttp", "aiosignal", "attrs", "certifi",
    "charset-normalizer", "frozenlist", "h5py", "hypothesis", "idna", "jax", "jaxlib",
    "matplotlib", "ml-dtypes", "multidict", "numpy", "pandas", "pillow", "propcache",
    "protobuf", "psutil", "pyarrow", "pygments", "pyyaml", "requests", "scikit-learn", "scipy",
    "sortedcontainers", "tqdm", "urllib3", "yarl",
}  # fmt: skip
"""What the machine has in versions that will do, with what it needs itself."""
LEFT_OUT = {
    "tensorflow": "the proof runs on JAX",
    "psycopg": "its databases are SQLite",
}
TESTS = ("hypothesis", "jax", "pytest", "pytest-timeout", "pytest-xdist")
"""What the engines' contract suite needs besides tuner's own dependencies."""

_MACHINE = {
    "python_version": "3.12",
    "python_full_version": "3.12.3",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "os_name": "posix",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "extra": "",
}
_PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 24, 17)] + [
    "manylinux2014_x86_64",
    "manylinux1_x86_64",
]


def main() -> None:
    """Fills the folder, or says why it cannot be carried."""
    arguments = argparse.ArgumentParser(prog="scripts/gpu-proof collect")
    arguments.add_argument("--wheels", type=Path, required=True, metavar="FOLDER")
    folder: Path = arguments.parse_args().wheels.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    _download(locked(carried()), folder)
    _pip("wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}", str(ROOT))
    _keep_mnist(folder / "cache")
    (folder / "revision").write_text(machine.revision())
    _check_size(folder)


def direct() -> list[Requirement]:
    """What `pyproject.toml` asks for, and the tests."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(each) for each in (*project["dependencies"], *TESTS)]


def carried() -> set[str]:
    """The packages to carry: all that is needed, but for what is there and what is left out."""
    found: set[str] = set()
    pending = direct()
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        if name in found | PROVIDED | LEFT_OUT.keys():
            continue
        found.add(name)
        pending += _needs(name, requirement.extras)
    return found


def _needs(name: str, extras: Iterable[str]) -> Iterator[Requirement]:
    """What an installed package asks for on that machine."""
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        environments = [_MACHINE, *({**_MACHINE, "extra": extra} for extra in extras)]
        marker = requirement.marker
        if marker is None or any(marker.evaluate(each) for each in environments):
            yield requirement


def locked(names: Iterable[str]) -> dict[str, str]:
    """The lock's lines of these packages, with their hashes, as that machine reads them."""
    wanted, found = set(names), dict[str, str]()
    for line in LOCK.read_text().replace("\\\n", " ").splitlines():
        pinned, *hashes = re.split(r"\s+(?=--hash=)", line.strip())
        requirement = Requirement(pinned)
        name, marker = canonicalize_name(requirement.name), requirement.marker
        if name in wanted and (marker is None or marker.evaluate(_MACHINE)):
            requirement.marker = None
            found[name] = " ".join([str(requirement), *hashes])
    if missing := sorted(wanted - found.keys()):
        raise SystemExit(f"{LOCK.name}: has no {', '.join(missing)}; run scripts/lock")
    return found


def _download(lines: dict[str, str], folder: Path) -> None:
    with TemporaryDirectory() as temporary:
        list_file = Path(temporary) / "requirements.txt"
        list_file.write_text("\n".join(lines.values()))
        _pip(
            "download",
            *("--no-deps", "--require-hashes", "--only-binary=:all:", f"--dest={folder}"),
            *("--python-version=3.12", "--implementation=cp"),
            *(f"--platform={name}" for name in _PLATFORMS),
            *("-r", str(list_file)),
        )


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)


def _keep_mnist(cache: Path) -> None:
    """Puts MNIST where tuner looks for it once `XDG_CACHE_HOME` is this folder; compressed."""
    dataset = published().load()
    os.environ["XDG_CACHE_HOME"] = str(cache)
    file = published().cache
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        file,
        x_train=dataset.train.images,
        y_train=dataset.train.labels,
        x_test=dataset.test.images,
        y_test=dataset.test.labels,
    )


def _check_size(folder: Path) -> None:
    sizes = {file: file.stat().st_size for file in folder.rglob("*") if file.is_file()}
    total_mb = sum(sizes.values()) / 2**20
    sys.stdout.write(f"{folder}: {len(sizes)} files, {total_mb:.1f} MB\n")
    if total_mb > MOST_MB:
        largest = sorted(sizes, key=lambda file: -sizes[file])[:5]
        names = ", ".join(file.name for file in largest)
        raise SystemExit(f"{folder}: must be at most {MOST_MB} MB; the largest are {names}")


if __name__ == "__main__":
    main()

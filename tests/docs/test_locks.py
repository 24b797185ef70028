"""Every lock pins by hash what its extra asks for, and holds no address."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = sorted(ROOT.glob("requirements*.lock"))
EXTRAS = ("cuda", "dev", "gp", "jax", "jax-cuda", "ray", "server")


def _pinned(lock: Path) -> dict[str, set[str]]:
    """The versions that a lock has of every package, by its name."""
    pins: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", lock.read_text(), re.MULTILINE):
        pins.setdefault(name, set()).add(version)
    return pins


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_has_hashes_and_no_address(lock: Path) -> None:
    packages = re.split(r"^(?=\S)", lock.read_text(), flags=re.MULTILINE)[1:]
    assert packages
    assert all("==" in each.partition("\n")[0] and "--hash=sha256:" in each for each in packages)
    assert "://" not in lock.read_text()


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_lock_holds_what_its_extra_asks_for(extra: str) -> None:
    pins = _pinned(ROOT / f"requirements-{extra}.lock")
    for wanted in map(Requirement, PROJECT["optional-dependencies"][extra]):
        if wanted.name == "tuner":
            continue
        assert pins[wanted.name]
        assert all(wanted.specifier.contains(version) for version in pins[wanted.name])

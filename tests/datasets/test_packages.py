"""The real package index, asked the way a machine without pip would."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tuner.datasets.published.packages import debian_package_file, python_package_file
from tuner.errors import DataError

SMALL = ("iniconfig==2.0.0", "iniconfig/__init__.py")


def without_pip(path: str, folder: Path) -> str:
    """What the file holds when fetched by an interpreter that sees no installed package."""
    code = (
        "from pathlib import Path\n"
        "from tuner.datasets.published.packages import python_package_file\n"
        f"print(python_package_file(*{SMALL}, Path({str(folder)!r})).read_text())"
    )
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "PATH": path}
    return subprocess.check_output([sys.executable, "-S", "-c", code], text=True, env=environment)


@pytest.mark.slow
def test_without_pip_or_uv_a_temporary_environment_serves(tmp_path: Path) -> None:
    assert "class IniConfig" in without_pip(str(tmp_path), tmp_path)
    assert (tmp_path / "venv").is_dir()


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed")
def test_without_pip_uv_serves(tmp_path: Path) -> None:
    assert "class IniConfig" in without_pip(os.environ["PATH"], tmp_path)
    assert not (tmp_path / "venv").exists()


def test_an_unknown_version_names_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"exit code \d+.*iniconfig==99"):
        python_package_file("iniconfig==99", "iniconfig/__init__.py", tmp_path)


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"iniconfig==2.0.0 holds no .*nothing.py"):
        python_package_file(SMALL[0], "nothing.py", tmp_path)


def test_no_debian_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="apt-get and dpkg-deb are not here"):
        debian_package_file("dataset-fashion-mnist", "usr", tmp_path)

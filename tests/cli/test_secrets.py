"""Passwords in addresses, which no output and no log may show."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.errors import TunerError, masked

SECRET = "hunter2"  # noqa: S105 - nobody has it
NOWHERE = "127.0.0.1:9"

passwords = st.text(
    st.characters(exclude_categories=["Z", "C"], exclude_characters="/"), min_size=1
)


@given(password=passwords, before=st.text(), after=st.text())
def test_a_password_is_masked_wherever_its_address_stands(
    password: str, before: str, after: str
) -> None:
    address = f"postgresql://someone:{password}@server/name"
    hidden = masked(f"{before} {address} {after}")
    assert "postgresql://someone:***@server/name" in hidden
    assert str(TunerError(address)) == "postgresql://someone:***@server/name"


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("TUNER_STORAGE_URL", f"postgresql://someone:{SECRET}@{NOWHERE}/name?connect_timeout=2"),
        ("TUNER_STORAGE_URL", f"nosuch://someone:{SECRET}@{NOWHERE}/name"),
        ("MLFLOW_TRACKING_URI", f"http://someone:{SECRET}@{NOWHERE}"),
        ("MLFLOW_TRACKING_URI", f"ftp://someone:{SECRET}@{NOWHERE}"),
    ],
)
@pytest.mark.parametrize("debug", [(), ("--debug",)])
def test_no_command_shows_the_password_of_a_server_that_refuses(
    tmp_path: Path, variable: str, address: str, debug: tuple[str, ...]
) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tuner", *debug, "doctor"],
        env=os.environ | {"TUNER_HOME": str(tmp_path / "home"), variable: address},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode in (2, 3)
    assert "error: " in ran.stderr
    assert SECRET not in ran.stdout + ran.stderr
    logs = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in logs if SECRET.encode() in path.read_bytes()]
